"""The candle files, of trades or of the mark price: one Parquet file per symbol and month.

    klines/symbol=BTCUSDT/month=2024-06.parquet

Each file says in its metadata which interval its candles have, whether a simulator made them and
which source they came from: neither two intervals nor real and synthetic candles ever mix in one
folder, nor two sources in one symbol.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import SchemaMismatch
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    Interval,
    Month,
    month_range,
)
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.months import (
    any_month_file,
    month_path,
    read_month_file,
    stored_months,
)

_INTERVAL = b"interval"
_SYNTHETIC = b"synthetic"
_SOURCE = b"source"


@dataclass(frozen=True)
class KlineStore:
    """The candle files of one folder, all of one interval."""

    folder: Path
    """Folder that holds `symbol=…/month=….parquet`; need not exist."""
    interval: Interval
    """Length of every candle."""
    schema: pa.Schema = field(default=CANDLE_SCHEMA, repr=False)
    """Columns of every file, `start_time` among them."""

    def path(self, symbol: str, month: Month) -> Path:
        """Return the file of a symbol's candles of a month; it need not exist."""
        return month_path(self.folder, symbol, month)

    def paths(self, symbols: Iterable[str]) -> list[Path]:
        """Return every stored file of the symbols, for a reader such as DuckDB."""
        return [self.path(s, month) for s in symbols for month in self.months(s)]

    def months(self, symbol: str) -> list[Month]:
        """Return the months that have a file, oldest first."""
        return stored_months(self.folder, symbol)

    def read_month(self, symbol: str, month: Month) -> pa.Table:
        """Return a month's stored candles as `schema`; no rows where there is no file.

        Raises
        ------
        SchemaMismatch
            If the file has other columns than the contract, or candles of another interval.
        """
        path = self.path(symbol, month)
        table = read_month_file(path, self.schema)
        if table is None:
            return self.schema.empty_table()
        self._require_interval(path, table.schema)
        return table.cast(self.schema)

    def read(self, symbol: str, first: Month, last: Month) -> pa.Table:
        """Return the stored candles of the months `first` to `last`, oldest first."""
        return pa.concat_tables(
            [
                self.schema.empty_table(),
                *(self.read_month(symbol, m) for m in month_range(first, last)),
            ]
        )

    def read_all(self, symbol: str) -> pa.Table:
        """Return every stored candle of a symbol, oldest first."""
        return pa.concat_tables(
            [self.schema.empty_table(), *(self.read_month(symbol, m) for m in self.months(symbol))]
        )

    def newest_start(self, symbol: str) -> int | None:
        """Return the start of a symbol's newest candle, ms since the epoch; None without any."""
        for month in reversed(self.months(symbol)):
            candles = self.read_month(symbol, month)
            if candles.num_rows:
                return int(candles["start_time"][-1].as_py())
        return None

    def write_month(
        self, symbol: str, month: Month, candles: pa.Table, *, synthetic: bool, source: str = ""
    ) -> None:
        """Replace a month's file, whole or not at all.

        Parameters
        ----------
        candles : pa.Table
            Rows of `schema`: sorted, unique, closed, within the month.
        synthetic : bool
            Whether a simulator made them.
        source : str
            Name of the source that they came from; empty where it is not known.
        """
        marks = {_INTERVAL: self.interval.value.encode(), _SYNTHETIC: str(synthetic).encode()}
        if source:
            marks[_SOURCE] = source.encode()
        table = candles.cast(self.schema).replace_schema_metadata(
            {**(self.schema.metadata or {}), **marks}
        )
        write_parquet(table, self.path(symbol, month))

    def synthetic(self) -> bool | None:
        """Say whether the stored candles were made by a simulator; None where there are none."""
        path = any_month_file(self.folder)
        if path is None:
            return None
        return (pq.read_schema(path).metadata or {}).get(_SYNTHETIC) == b"True"

    def source(self, symbol: str) -> str:
        """Return which source a symbol's newest candles came from; empty where none is known."""
        for month in reversed(self.months(symbol)):
            marks = pq.read_schema(self.path(symbol, month)).metadata or {}
            source: bytes = marks.get(_SOURCE, b"")
            if source:
                return source.decode()
        return ""

    def require_kind(
        self, *, synthetic: bool, source: str = "", symbols: Iterable[str] = ()
    ) -> None:
        """Refuse to mix simulated and real candles, two intervals, or two sources of a symbol.

        Parameters
        ----------
        synthetic : bool
            Whether a simulator makes the candles that are to be stored.
        source : str
            Name of the source that they come from; empty is not compared.
        symbols : iterable of str
            Those that come from it. Stored candles of no known source fit any.

        Raises
        ------
        SchemaMismatch
            If the folder holds candles of the other kind or of another interval, or those of one
            of the symbols came from another source.
        """
        path = any_month_file(self.folder)
        if path is not None:
            self._require_interval(path, pq.read_schema(path))
        stored = self.synthetic()
        if stored is not None and stored != synthetic:
            kinds = {True: "simulated", False: "real"}
            raise SchemaMismatch(
                f"{self.folder} holds {kinds[stored]} candles and the exchange serves "
                f"{kinds[synthetic]} ones: use another FLASH_PIPELINE_HOME for these"
            )

        for symbol in symbols:
            self._require_source(symbol, source)

    def _require_source(self, symbol: str, source: str) -> None:
        stored = self.source(symbol)
        if stored and source and stored != source:
            raise SchemaMismatch(
                f"{self.folder} holds candles of {symbol} from {stored}, now they come from "
                f"{source}: two sources never mix in one symbol; use another "
                "FLASH_PIPELINE_HOME, or remove its folder"
            )

    def _require_interval(self, path: Path, schema: pa.Schema) -> None:
        interval = (schema.metadata or {}).get(_INTERVAL, b"").decode()
        if interval != self.interval.value:
            raise SchemaMismatch(
                f"{path} holds candles of interval {interval!r}, asked for "
                f"{self.interval.value!r}: use another FLASH_PIPELINE_HOME for it"
            )
