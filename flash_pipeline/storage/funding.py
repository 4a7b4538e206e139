"""The funding files: one Parquet file per symbol and month.

funding/symbol=BTCUSDT/month=2024-06.parquet
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import FileDamaged, SchemaMismatch
from flash_pipeline.market import FUNDING_SCHEMA, Month
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.months import (
    any_month_file,
    month_path,
    read_month_file,
    stored_months,
)

_SYNTHETIC = b"synthetic"


@dataclass(frozen=True)
class FundingStore:
    """The funding files of one folder."""

    folder: Path
    """Folder that holds `symbol=…/month=….parquet`; need not exist."""

    def path(self, symbol: str, month: Month) -> Path:
        """Return the file of a symbol's funding of a month; it need not exist."""
        return month_path(self.folder, symbol, month)

    def months(self, symbol: str) -> list[Month]:
        """Return the months that have a file, oldest first."""
        return stored_months(self.folder, symbol)

    def read_month(self, symbol: str, month: Month) -> pa.Table:
        """Return a month's stored funding as `FUNDING_SCHEMA`; no rows where there is no file.

        Raises
        ------
        FileDamaged
            If the file cannot be read.
        SchemaMismatch
            If the file has other columns than the contract.
        """
        table = read_month_file(self.path(symbol, month), FUNDING_SCHEMA)
        return FUNDING_SCHEMA.empty_table() if table is None else table.cast(FUNDING_SCHEMA)

    def read_all(self, symbol: str) -> pa.Table:
        """Return all stored funding of a symbol, oldest first."""
        parts = (self.read_month(symbol, month) for month in self.months(symbol))
        return pa.concat_tables([FUNDING_SCHEMA.empty_table(), *parts])

    def is_damaged(self, symbol: str, month: Month) -> bool:
        """Say whether a month has a file that cannot be read."""
        try:
            self.read_month(symbol, month)
        except FileDamaged:
            return True
        return False

    def write_month(self, symbol: str, month: Month, funding: pa.Table, *, synthetic: bool) -> None:
        """Replace a month's file, whole or not at all.

        Parameters
        ----------
        funding : pa.Table
            Rows of `FUNDING_SCHEMA`: sorted, unique, settled, within the month.
        synthetic : bool
            Whether a simulator made them.
        """
        marks = {**FUNDING_SCHEMA.metadata, _SYNTHETIC: str(synthetic).encode()}
        table = funding.cast(FUNDING_SCHEMA).replace_schema_metadata(marks)
        write_parquet(table, self.path(symbol, month))

    def require_kind(self, *, synthetic: bool) -> None:
        """Refuse to mix simulated and real funding.

        Raises
        ------
        SchemaMismatch
            If the folder holds funding of the other kind.
        """
        path = any_month_file(self.folder)
        if path is None:
            return
        stored = (pq.read_schema(path).metadata or {}).get(_SYNTHETIC) == b"True"
        if stored != synthetic:
            kinds = {True: "simulated", False: "real"}
            raise SchemaMismatch(
                f"{self.folder} holds {kinds[stored]} funding and the exchange serves "
                f"{kinds[synthetic]} one: use another FLASH_PIPELINE_HOME for it"
            )
