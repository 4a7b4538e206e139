"""Candles to be cut, spoiled and engineered again, apart from everything that is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.features import (
    FEATURE_NAMES,
    SPARSENESS,
    WARMUP_BARS,
    read_features,
    refresh_features,
)
from flash_pipeline.market import Interval, Month, month_range
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows import panel_from_features, write_windows
from flash_pipeline.windows.blocks import WindowFrame

_PRICES = ("open", "high", "low", "close")
_SPOILT = 0.5  # deviation of the logarithm of the factor: most prices change by half or double


@dataclass(frozen=True)
class Candles:
    """The candles of some symbols over a span, in memory."""

    tables: dict[str, pa.Table]
    """By symbol, in the order of the symbol axis; rows of `CANDLE_SCHEMA`."""
    interval: Interval
    """Length of a candle."""
    sessional: tuple[str, ...] = ()
    """Symbols whose market closes; see `refresh_features`."""

    @property
    def warmup_bars(self) -> int:
        """Bars of the grid that hold the catalog's warm-up of every symbol."""
        closes = any(symbol in self.sessional for symbol in self.tables)
        return WARMUP_BARS * (SPARSENESS if closes else 1)

    @classmethod
    def read(
        cls,
        store: KlineStore,
        symbols: Sequence[str],
        since: int,
        until: int,
        sessional: Sequence[str] = (),
    ) -> "Candles":
        """Return the stored candles that start from `since` on and before `until`, both ms.

        Raises
        ------
        NotEnoughHistory
            If a symbol has none.
        """
        first, last = Month.containing(since), Month.containing(max(since, until - 1))
        tables = {symbol: store.read(symbol, first, last) for symbol in symbols}
        return cls(tables, store.interval, tuple(sessional)).between(since, until)

    def between(self, since: int, until: int) -> "Candles":
        """Return the candles that start from `since` on and before `until`, ms since the epoch.

        Raises
        ------
        NotEnoughHistory
            If a symbol has none.
        """
        tables = {}
        for symbol, table in self.tables.items():
            start = table["start_time"]
            inside = pc.and_(pc.greater_equal(start, since), pc.less(start, until))
            tables[symbol] = table.filter(inside)
            if not tables[symbol].num_rows:
                raise NotEnoughHistory(f"no candles of {symbol} are stored for an audit")
        return replace(self, tables=tables)

    def spoiled(self, since: int, rng: np.random.Generator) -> "Candles":
        """Return the candles with every price and volume from an instant on changed at random.

        The prices of a candle change by one factor, so that it stays a valid one.
        """
        tables = {}
        for symbol, table in self.tables.items():
            late = table["start_time"].to_numpy() >= since
            price, volume = np.where(late, rng.lognormal(0, _SPOILT, (2, len(late))), 1.0)
            factors = {**dict.fromkeys(_PRICES, price), "volume": volume, "turnover": volume}
            for name, factor in factors.items():
                column = pc.multiply(table[name], pa.array(factor))
                table = table.set_column(table.column_names.index(name), name, column)
            tables[symbol] = table
        return replace(self, tables=tables)

    def features(self) -> pa.Table:
        """Return the features engineered from these candles and nothing else.

        Returns
        -------
        pa.Table
            As `read_features` gives them, ordered by start and symbol.
        """
        with TemporaryDirectory(prefix="audit-") as folder:
            return self._engineered(Path(folder))

    def frame(
        self,
        lookback: int,
        horizon: int,
        *,
        synthetic: bool = False,
        features: pa.Table | None = None,
    ) -> WindowFrame:
        """Return the windows of these candles and nothing else.

        Parameters
        ----------
        features : pa.Table or None
            What `features` gave, where it was asked already: to compute them takes most of the
            time.

        Raises
        ------
        NotEnoughHistory
            If they are too short for one window and its label.
        """
        symbols = tuple(self.tables)
        table = self.features() if features is None else features
        panel = panel_from_features(table, symbols, FEATURE_NAMES, self.interval)
        with TemporaryDirectory(prefix="audit-") as folder:
            return write_windows(
                panel,
                Path(folder) / "windows",
                lookback=lookback,
                horizon=horizon,
                stride=lookback,
                synthetic=synthetic,
            )

    def _engineered(self, folder: Path) -> pa.Table:
        store = KlineStore(folder / "klines", self.interval)
        starts = [pc.min_max(table["start_time"]).as_py() for table in self.tables.values()]
        oldest, newest = min(s["min"] for s in starts), max(s["max"] for s in starts)
        first, last = Month.containing(oldest), Month.containing(newest)
        for symbol, table in self.tables.items():
            for month in month_range(first, last):
                span, start = month.time_range, table["start_time"]
                inside = pc.and_(pc.greater_equal(start, span.start), pc.less(start, span.end))
                store.write_month(symbol, month, table.filter(inside), synthetic=True)
        with open_warehouse(folder / "audit.duckdb") as connection:
            refresh_features(
                connection, store, tuple(self.tables), first, last, sessional=self.sessional
            )
            return read_features(connection, tuple(self.tables), oldest)
