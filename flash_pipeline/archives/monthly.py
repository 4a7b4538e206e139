"""Reads months of Bybit's kline archive: `YYYY.MM.DD HH:MM,o,h,l,c,v` lines, gzipped, UTC+3.

The clock of these files is three hours ahead of UTC all year, so a month of theirs begins at
21:00 UTC of the last day of the month before: its first three hours belong to that month here.
There is no turnover in them.
"""

import gzip
import zlib
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.archives.columns import Rows, make_candles, parse_numbers, read_texts
from flash_pipeline.archives.files import CandleFile
from flash_pipeline.errors import DataError

AHEAD_MS = 3 * 60 * 60 * 1000
"""How far the archive's clock is ahead of UTC, ms."""

MOST_BYTES = 64 * 1024 * 1024
"""Largest content that is read, bytes; a month of one-minute candles has 3 million."""

_CHUNK_BYTES = 1024 * 1024
_TIME = "%Y.%m.%d %H:%M"
_VALUES = ["open", "high", "low", "close", "volume"]


def read_month(file: CandleFile) -> pa.Table:
    """Return a month's candles, checked, as `CANDLE_SCHEMA`; turnover is null.

    Raises
    ------
    DataError
        If the file is damaged, larger than any month, or has a line that is no candle or lies
        outside the days of its name; with the file, the row and the value.
    """
    rows = Rows(file.path)
    texts = read_texts(_read_content(file), rows, ["time", *_VALUES], header=False)
    local = _parse_times(texts["time"], rows)
    _require_days(local, texts["time"], file, rows)
    values = {name: parse_numbers(texts[name], name, rows) for name in _VALUES}
    return make_candles(rows, file.interval, local - AHEAD_MS, values)


def _read_content(file: CandleFile) -> bytes:
    """Return what a file holds, decompressed piece by piece: a bomb ends at the bound."""
    content = bytearray()
    opened = gzip.open if file.path.suffix == ".gz" else open
    try:
        with opened(file.path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                content += chunk
                if len(content) > MOST_BYTES:
                    raise DataError(f"{file.path} holds more than {MOST_BYTES} bytes")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.path} cannot be read: {error}") from error
    return bytes(content)


def _parse_times(texts: pa.ChunkedArray, rows: Rows) -> npt.NDArray[np.int64]:
    """Return the times as if they were UTC, ms since the epoch."""
    moments = pc.strptime(texts, format=_TIME, unit="ms", error_is_null=True)
    # Written again they must be the same: the parser lets 31 June and single digits pass.
    again = pc.equal(pc.strftime(moments, format=_TIME), texts)
    good = pc.fill_null(again, fill_value=False).to_numpy()
    rows.require(good, "time", lambda row: texts[row].as_py(), "expected YYYY.MM.DD HH:MM")
    times: npt.NDArray[np.int64] = moments.cast(pa.int64()).to_numpy()
    return times


def _require_days(
    local: npt.NDArray[np.int64], texts: pa.ChunkedArray, file: CandleFile, rows: Rows
) -> None:
    assert file.days is not None
    first, last = file.days
    inside = (local >= _midnight(first)) & (local < _midnight(last + timedelta(days=1)))
    rows.require(
        inside,
        "time",
        lambda row: texts[row].as_py(),
        f"outside the days {first} to {last} of the file's name",
    )


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
