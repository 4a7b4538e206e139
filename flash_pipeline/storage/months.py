"""The layout that all series of a symbol share: one Parquet file per calendar month.

<folder>/symbol=BTCUSDT/month=2024-06.parquet
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import FileDamaged, SchemaMismatch
from flash_pipeline.market import Month, parse_symbol


def month_path(folder: Path, symbol: str, month: Month) -> Path:
    """Return the file of a symbol's month; it need not exist."""
    return folder / f"symbol={parse_symbol(symbol)}" / f"month={month}.parquet"


def stored_months(folder: Path, symbol: str) -> list[Month]:
    """Return the months of a symbol that have a file, oldest first."""
    paths = (folder / f"symbol={parse_symbol(symbol)}").glob("month=*.parquet")
    return sorted(Month.parse(path.stem.removeprefix("month=")) for path in paths)


def any_month_file(folder: Path) -> Path | None:
    """Return one of the folder's month files that can be read, None where there is none."""
    return next(filter(_is_parquet, folder.glob("symbol=*/month=*.parquet")), None)


def read_month_file(path: Path, schema: pa.Schema) -> pa.Table | None:
    """Return a month's file with its own metadata, None where there is none.

    Raises
    ------
    FileDamaged
        If the file cannot be read.
    SchemaMismatch
        If the file has other columns than the schema.
    """
    if not path.is_file():
        return None
    # Of one small file: `pq.read_table` would look for a data set in it, which takes longer.
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise FileDamaged(f"{path} cannot be read: {error}") from error
    if not table.schema.equals(schema):
        raise SchemaMismatch(
            f"{path} has the columns {table.schema.names}, expected {schema.names}"
        )
    return table


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_schema(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True
