"""Recorded candles and funding rates on disk, read and checked.

    BTCUSDT_60.parquet         candles: start_time open high low close volume turnover
    BTCUSDT_funding.parquet    funding: funding_time funding_rate

Times are int64 ms since the epoch, the rest float64; a turnover may be missing.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import DataError, InvalidInput, SchemaMismatch
from flash_pipeline.exchange.candles import Candles
from flash_pipeline.exchange.source import FundingRate
from flash_pipeline.market import CANDLE_SCHEMA, Interval, iso_utc, parse_symbol

FUNDING_SCHEMA = pa.schema([("funding_time", pa.int64()), ("funding_rate", pa.float64())])
"""Columns of a funding file."""

_FUNDING = "funding"
Key = tuple[str, Interval]


def find_recordings(folder: Path) -> tuple[dict[Key, Path], dict[str, Path]]:
    """Return the candle files by symbol and interval, and the funding files by symbol.

    A Parquet file is taken for a recording if its name has two parts, `A_B.parquet`; any other
    file is left alone, so that a folder may hold notes and other sources' data too.

    Raises
    ------
    InvalidInput
        If the folder is missing or holds no candles, or a name's parts are no symbol and no
        interval or `funding` (`InvalidSymbol`, `InvalidInterval`).
    """
    if not folder.is_dir():
        raise InvalidInput(f"replay folder {str(folder)!r} does not exist")
    candles: dict[Key, Path] = {}
    funding: dict[str, Path] = {}
    for path in sorted(folder.glob("*.parquet")):
        parts = path.stem.split("_")
        if len(parts) != 2:
            continue
        symbol, kind = _parse_name(path, parts[0], parts[1])
        if kind is None:
            funding[symbol] = path
        else:
            candles[symbol, kind] = path
    if not candles:
        raise InvalidInput(
            f"replay folder {str(folder)!r} holds no candles: expected files such as "
            "BTCUSDT_60.parquet"
        )
    return candles, funding


def _parse_name(path: Path, symbol: str, kind: str) -> tuple[str, Interval | None]:
    try:
        return parse_symbol(symbol), None if kind == _FUNDING else Interval.parse(kind)
    except InvalidInput as error:
        message = f"{path} is misnamed, expected {{SYMBOL}}_{{INTERVAL}}.parquet: {error}"
        raise type(error)(message) from None


def read_candle_file(path: Path, interval: Interval) -> Candles:
    """Return a file's candles, with NaN for a missing turnover.

    Raises
    ------
    SchemaMismatch
        If a column is missing or cannot be read as its type.
    DataError
        If there are no rows, or starts are unsorted, repeated or off the interval's grid, or a
        value but the turnover is missing or not finite.
    """
    table = _read(path, CANDLE_SCHEMA)
    candles = Candles(*(column.to_numpy() for column in table.columns))
    _check_times(path, candles.start_time)
    off_grid = candles.start_time % interval.milliseconds != 0
    if off_grid.any():
        at = iso_utc(int(candles.start_time[off_grid][0]))
        raise DataError(f"{path} has a candle at {at}, off the grid of interval {interval.value}")
    for field, column in zip(CANDLE_SCHEMA.names[:-1], candles.columns(), strict=False):
        _check_finite(path, field, column)
    return candles


def read_funding_file(path: Path) -> list[FundingRate]:
    """Return a file's settlements, oldest first; their times may lie off any grid.

    Raises
    ------
    SchemaMismatch
        If a column is missing or cannot be read as its type.
    DataError
        If there are no rows, or times are unsorted or repeated, or a rate is not finite.
    """
    table = _read(path, FUNDING_SCHEMA)
    times, rates = (column.to_numpy() for column in table.columns)
    _check_times(path, times)
    _check_finite(path, "funding_rate", rates)
    return [FundingRate(*row) for row in zip(times.tolist(), rates.tolist(), strict=True)]


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(path, partitioning=None)
        return table.select(schema.names).cast(pa.schema([(f.name, f.type) for f in schema]))
    except (pa.ArrowException, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        columns = " ".join(schema.names)
        raise SchemaMismatch(f"{path} cannot be read: {reason}; expected {columns}") from error


def _check_times(path: Path, times: npt.NDArray[np.int64]) -> None:
    if not len(times):
        raise DataError(f"{path} holds no rows")
    if times.dtype != np.int64:
        raise DataError(f"{path} has a row without a time")
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if len(wrong):
        at = iso_utc(int(times[wrong[0] + 1]))
        raise DataError(f"{path} is not sorted or has {at} twice")


def _check_finite(path: Path, name: str, column: npt.NDArray[np.float64]) -> None:
    wrong = np.flatnonzero(~np.isfinite(column))
    if len(wrong):
        raise DataError(f"{path} has no finite {name} in row {wrong[0]}")
