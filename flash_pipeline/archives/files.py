"""Finds candle files by their names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import Interval, parse_symbol

FORMATS = ("archive", "recording")
"""What a candle file may be: a month of Bybit's archive, or a recording."""

_ARCHIVE = re.compile(r"([^_]+)_([^_]+)_(\d{4}-\d\d-\d\d)_(\d{4}-\d\d-\d\d)\.csv(?:\.gz)?")
_RECORDING = re.compile(r"([^_]+)_([^_]+)\.(?:parquet|csv)")
_OTHER_RECORDINGS = frozenset({"funding"})  # `BTCUSDT_funding.parquet` holds no candles
_EXPECTED = {
    "archive": "BTCUSDT_60_2024-06-01_2024-06-30.csv.gz",
    "recording": "BTCUSDT_60.parquet or BTCUSDT_60.csv",
}


@dataclass(frozen=True)
class CandleFile:
    """A file of one symbol's candles."""

    path: Path
    """Where it is."""
    symbol: str
    """Instrument."""
    interval: Interval
    """Length of its candles."""
    days: tuple[date, date] | None
    """First and last day of a month of the archive, by its own clock; None of a recording."""

    @property
    def format(self) -> str:
        """One of `FORMATS`."""
        return "recording" if self.days is None else "archive"


def find_files(paths: Iterable[Path], formats: Sequence[str] = FORMATS) -> list[CandleFile]:
    """Return the candle files that paths name or hold, by symbol, then by path, each once.

    Parameters
    ----------
    paths : iterable of Path
        Files, which must be candle files, and folders, which may hold other files too. Folders
        within are looked through as well: the archive has one per symbol and year.
    formats : sequence of str
        Which of `FORMATS` to look for.

    Raises
    ------
    InvalidInput
        If a path does not exist, is not named as a candle file is, or holds none; also
        `InvalidSymbol` and `InvalidInterval` for a part of a name.
    """
    found: dict[Path, CandleFile] = {}
    for path in paths:
        for file in _candle_files(path, formats):
            found[file.path.resolve()] = file
    return sorted(found.values(), key=lambda file: (file.symbol, file.path))


def _candle_files(path: Path, formats: Sequence[str]) -> Iterator[CandleFile]:
    expected = " or ".join(_EXPECTED[name] for name in formats)
    if path.is_file():
        file = _parse_name(path, formats)
        if file is None:
            raise InvalidInput(f"{path} is not named as a candle file: expected {expected}")
        yield file
        return
    if not path.is_dir():
        raise InvalidInput(f"{path} does not exist: expected a file or a folder of candles")
    inside = (_parse_name(each, formats) for each in sorted(path.rglob("*")) if each.is_file())
    files = [file for file in inside if file is not None]
    if not files:
        raise InvalidInput(f"{path} holds no candles: expected files such as {expected}")
    yield from files


def _parse_name(path: Path, formats: Sequence[str]) -> CandleFile | None:
    """Return what a name says; None where it is none of a candle file."""
    archive = _ARCHIVE.fullmatch(path.name) if "archive" in formats else None
    recording = _RECORDING.fullmatch(path.name) if "recording" in formats else None
    match = archive or recording
    if match is None or match[2] in _OTHER_RECORDINGS:
        return None
    try:
        symbol, interval = parse_symbol(match[1]), Interval.parse(match[2])
    except InvalidInput as error:
        raise type(error)(f"{path} is misnamed: {error}") from None
    return CandleFile(path, symbol, interval, _parse_days(path, match) if archive else None)


def _parse_days(path: Path, match: re.Match[str]) -> tuple[date, date]:
    try:
        first, last = date.fromisoformat(match[3]), date.fromisoformat(match[4])
    except ValueError as error:
        raise InvalidInput(f"{path} is misnamed: {error}") from None
    if last < first:
        raise InvalidInput(f"{path} is misnamed: {last} comes before {first}")
    return first, last
