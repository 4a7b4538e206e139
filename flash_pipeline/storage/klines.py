"""The candle files: one Parquet file per symbol and month.

klines/symbol=BTCUSDT/month=2024-06.parquet
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.market import CANDLE_SCHEMA, Month, empty_candles, month_range, parse_symbol
from flash_pipeline.storage.files import write_parquet


def month_path(folder: Path, symbol: str, month: Month) -> Path:
    """Return the file of a symbol's candles of a month; it need not exist."""
    return folder / f"symbol={parse_symbol(symbol)}" / f"month={month}.parquet"


def stored_months(folder: Path, symbol: str) -> list[Month]:
    """Return the months that have a file, oldest first."""
    paths = (folder / f"symbol={parse_symbol(symbol)}").glob("month=*.parquet")
    return sorted(Month.parse(path.stem.removeprefix("month=")) for path in paths)


def read_month(folder: Path, symbol: str, month: Month) -> pa.Table:
    """Return the stored candles of a month as `CANDLE_SCHEMA`; no rows where there is no file.

    Raises
    ------
    SchemaMismatch
        If the file has other columns than the contract.
    """
    path = month_path(folder, symbol, month)
    if not path.is_file():
        return empty_candles()
    table = pq.read_table(path, partitioning=None)
    if not table.schema.equals(CANDLE_SCHEMA):
        raise SchemaMismatch(f"{path} has the columns {table.schema.names}, expected candles")
    return table


def read_candles(folder: Path, symbol: str, first: Month, last: Month) -> pa.Table:
    """Return the stored candles of the months `first` to `last`, oldest first."""
    return pa.concat_tables(read_month(folder, symbol, m) for m in month_range(first, last))


def write_month(folder: Path, symbol: str, month: Month, candles: pa.Table) -> None:
    """Replace a month's file, whole or not at all.

    Parameters
    ----------
    candles : pa.Table
        Rows of `CANDLE_SCHEMA`: sorted, unique, closed, within the month.
    """
    write_parquet(candles.cast(CANDLE_SCHEMA), month_path(folder, symbol, month))


def month_paths(folder: Path, symbols: Iterable[str]) -> list[Path]:
    """Return every candle file of the symbols, for a reader such as DuckDB."""
    return [month_path(folder, s, month) for s in symbols for month in stored_months(folder, s)]
