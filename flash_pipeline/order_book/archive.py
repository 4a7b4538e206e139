"""Bybit's archive of order books: a zip a day, of JSON lines, a snapshot and then deltas.

    https://quote-saver.bycsi.com/orderbook/linear/BTCUSDT/2024-06-01_BTCUSDT_ob500.data.zip

`ob500` are the days up to 2025-08-20, `ob200` those since.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

import numpy as np

from flash_pipeline.errors import DataError, ExchangeFault, InvalidConfig, InvalidInput
from flash_pipeline.market import MARKET_HEADER, parse_symbol
from flash_pipeline.order_book.lines import parse_lines
from flash_pipeline.order_book.rebuild import Rebuilder, Rules, Samples
from flash_pipeline.order_book.snapshots import (
    BookSeries,
    empty_series,
    series_of_prices,
    tick_size_of,
)
from flash_pipeline.settings import redacted
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.transport import (
    Answer,
    HttpTransport,
    RequestBudget,
    Timeouts,
    check_status,
)

ARCHIVE_URL = "https://quote-saver.bycsi.com"
"""Where Bybit serves it."""

MOST_BYTES = 2 * 1024**3
"""Largest file that is fetched; a day of BTCUSDT takes about 400 MB."""

ARCHIVE_FOLDER = "archive"
"""Name of the folder, below that of the order books, that fetched files are kept in."""

_SIMULATED_FOLDER = "simulated"
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_FIRST_200 = date(2025, 8, 20)
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)_([A-Z0-9]{2,20})_ob(\d{1,4})\.data(?:\.zip)?")
_CHUNK_BYTES = 16 * 1024 * 1024


def archive_path(symbol: str, day: date) -> str:
    """Return the path of a day's file below the archive's host."""
    depth = 200 if day >= _FIRST_200 else 500
    return f"/orderbook/linear/{parse_symbol(symbol)}/{day}_{symbol}_ob{depth}.data.zip"


def host_name(url: str) -> str:
    """Return the host of an archive, as a name that a file may have.

    Raises
    ------
    InvalidConfig
        If the URL names no host.

    Examples
    --------
    >>> host_name("https://Mirror.example:443/"), host_name("http://127.0.0.1:8123")
    ('mirror.example', '127.0.0.1_8123')
    """
    parts = urlsplit(url.strip())
    host = parts.netloc.lower().removesuffix(_USUAL_PORTS.get(parts.scheme, ""))
    if parts.scheme not in _USUAL_PORTS or not host.strip("."):
        raise InvalidConfig(
            f"the archive's URL is {redacted(url)!r}: expected such as {ARCHIVE_URL}"
        )
    return quote(host + parts.path.rstrip("/"), safe="").replace("%3A", "_")


def archive_folder(folder: Path, url: str = ARCHIVE_URL) -> Path:
    """Return where the files of an archive are kept, below a folder of order books.

    Those of any host but Bybit's have a folder of the host's name.
    """
    name, whole = host_name(url), folder / ARCHIVE_FOLDER
    return whole if name == host_name(ARCHIVE_URL) else whole / name


def find_day(symbol: str, day: date, folder: Path) -> Path | None:
    """Return the file of a day that `fetch_day` would take from a folder; None without one."""
    name = archive_path(symbol, day).rpartition("/")[2]
    paths = (folder / name, folder / _SIMULATED_FOLDER / name)
    return next((path for path in paths if path.is_file()), None)


def is_simulated(path: Path) -> bool:
    """Say whether a simulator made a file of `fetch_day`, as the answer that brought it said."""
    return path.parent.name == _SIMULATED_FOLDER


def archive_transport(url: str = ARCHIVE_URL) -> HttpTransport:
    """Return a transport for `fetch_day`, patient enough for whole days; it is to be closed."""
    return HttpTransport(
        [url],
        timeouts=Timeouts(read_s=120.0, total_s=1_800.0),
        budget=RequestBudget(5, 5.0),
        most_bytes=MOST_BYTES,
    )


def fetch_day(transport: HttpTransport, symbol: str, day: date, folder: Path) -> Path:
    """Fetch a day's file into a folder, whole or not at all, unless it is there.

    A file that someone has put there is taken as it is, without a request. One that the embedded
    exchange's simulator made goes into a folder within, so that `is_simulated` knows it later. What
    fails for a transient reason is tried again by the transport: no connection, no whole answer in
    time, HTTP 429 and 5xx, and an answer that is no whole zip, such as a page of whatever stands
    before.

    Parameters
    ----------
    transport : HttpTransport
        As `archive_transport` makes it.

    Raises
    ------
    DataError
        If the archive has no such day.
    ExchangeError
        As of the transport.
    """
    found = find_day(symbol, day, folder)
    if found is not None:
        return found
    path = archive_path(symbol, day)

    def read(answer: Answer) -> tuple[bytes, bool]:
        if answer.status == HTTPStatus.NOT_FOUND:
            raise DataError(f"{answer.url} is not there: no book of {symbol} on {day}")
        check_status(answer, symbol=symbol)
        if not zipfile.is_zipfile(io.BytesIO(answer.body)):
            raise ExchangeFault(
                f"{answer.url} answered {len(answer.body):,} bytes that are no whole zip: "
                "expected a day of order books",
                symbol=symbol,
                status=answer.status,
            )
        return answer.body, answer.headers.get(MARKET_HEADER.lower()) == "simulated"

    body, simulated = transport.get(path, {}, read, symbol=symbol)
    target = (folder / _SIMULATED_FOLDER if simulated else folder) / path.rpartition("/")[2]
    with replacing_file(target) as temporary:
        temporary.write_bytes(body)
    return target


def read_archive(
    path: Path,
    *,
    levels: int,
    cadence_ms: int = 1_000,
    tick_size: float | None = None,
    strict: bool = True,
) -> BookSeries:
    """Return the snapshots of a day's file at a cadence, rebuilt and checked.

    Every line is checked: update ids follow one another, the book is never crossed, times do not
    go back, each side has the levels asked for when it is sampled, and no more than five seconds
    go by without a line. A snapshot within the stream starts anew.

    Parameters
    ----------
    path : Path
        `{date}_{symbol}_ob{depth}.data.zip`, or the same unpacked.
    levels : int
        Of each side, at most the file's depth.
    cadence_ms : int
        A snapshot shows the book after the last line up to its instant, a multiple of this.
    tick_size : float or None
        Quote coin; None for the greatest step that all prices of the file fit.
    strict : bool
        Whether damage is an error. Otherwise it is recorded in `gaps`: after a skipped, torn or
        crossing line nothing is known until the next snapshot of the stream; where a side has too
        few levels the others are NaN.

    Raises
    ------
    InvalidInput
        If the file is misnamed, or `levels` or the cadence cannot be had of it.
    DataError
        If it cannot be read or is damaged.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InvalidInput(
            f"{path} is not named as a book archive: expected 2024-06-01_BTCUSDT_ob500.data.zip"
        )
    symbol, depth = match[2], int(match[3])
    if not 1 <= levels <= depth:
        raise InvalidInput(f"levels={levels} of {path.name}: expected 1 to {depth}")
    if cadence_ms < 1:
        raise InvalidInput(f"cadence_ms={cadence_ms}: expected 1 or more")
    rebuilder = Rebuilder(Rules(levels, cadence_ms, strict), str(path))
    number = 1
    for text in _chunks(path):
        rebuilder.add(
            parse_lines(text, number, source=str(path), symbol=symbol, keep_torn=not strict)
        )
        number += text.count(b"\n")
    return _series(symbol, levels, rebuilder.finish(), tick_size)


def _series(symbol: str, levels: int, samples: Samples, tick_size: float | None) -> BookSeries:
    if not sum(len(part) for part in samples.time):
        return empty_series(symbol, levels, samples.gaps)
    tick = tick_size or tick_size_of(np.unique(np.concatenate(samples.seen)))
    return series_of_prices(
        symbol,
        np.concatenate(samples.time),
        np.concatenate(samples.update),
        np.concatenate(samples.price),
        np.concatenate(samples.size),
        tick_size=tick,
        gaps=samples.gaps,
    )


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the file's text in parts of whole lines."""
    try:
        if path.suffix != ".zip":
            with path.open("rb") as file:
                yield from _whole_lines(file)
            return
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise DataError(f"{path} holds {len(names)} files: expected one")
            with archive.open(names[0]) as member:
                yield from _whole_lines(member)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {error}; delete it to have it fetched again"
        ) from error


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while block := file.read(_CHUNK_BYTES):
        text, end, rest = (rest + block).rpartition(b"\n")
        if end:
            yield text + end
        else:
            rest = text + rest
    if rest:
        yield rest
