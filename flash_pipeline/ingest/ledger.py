"""What the ingester knows beyond the candles: gaps and revisions, two tables in the warehouse.

    kline_gaps        one row per run of candles that a source does not have
    kline_revisions   one row per change of a stored candle: what it was, what it is, when seen

Both survive a kill at any moment that is followed by another refresh: gaps are replaced by what is
missing now, and a revision that was recorded before its candle was stored is known again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.market import CANDLE_COLUMNS, Interval
from flash_pipeline.storage.warehouse import open_warehouse, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GAPS_TABLE = "kline_gaps"
"""Gaps, open and filled."""

REVISIONS_TABLE = "kline_revisions"
"""Revisions of stored candles."""

_KEY = {"source": pa.string(), "symbol": pa.string(), "interval": pa.string()}
_VALUES = [f"{name}_{age}" for name in CANDLE_COLUMNS[1:] for age in ("old", "new")]

GAP_SCHEMA = pa.schema(
    {
        **_KEY,
        **dict.fromkeys(("first_start", "last_start", "candles"), pa.int64()),
        "cause": pa.string(),
        **dict.fromkeys(("found_at", "checked_at", "filled_at"), pa.int64()),
    }
)
"""Columns of `kline_gaps`; times in ms since the epoch, `filled_at` null while missing."""

REVISION_SCHEMA = pa.schema(
    {
        **_KEY,
        "start_time": pa.int64(),
        **dict.fromkeys(_VALUES, pa.float64()),
        "seen_at": pa.int64(),
    }
)
"""Columns of `kline_revisions`; `seen_at` in ms since the epoch, by the source's clock."""

_SCHEMAS = {GAPS_TABLE: GAP_SCHEMA, REVISIONS_TABLE: REVISION_SCHEMA}


@dataclass(frozen=True)
class Ledger:
    """The rows of one source and interval.

    The warehouse is opened for moments only, by one thread at a time, and not at all where there
    is nothing to record.
    """

    warehouse: Path
    """DuckDB file; made when there is something to record."""
    source: str
    """Name of the source."""
    interval: Interval
    """Length of the candles."""
    wait_s: float = 60.0
    """Seconds to wait for another process that holds the warehouse."""
    _lock: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    def open_gaps(self) -> dict[str, list[Gap]]:
        """Return the gaps that are not filled, by symbol, oldest first."""
        gaps: dict[str, list[Gap]] = {}
        for row in self.read(GAPS_TABLE).to_pylist():
            if row["filled_at"] is None:
                gaps.setdefault(row["symbol"], []).append(_gap(row))
        return gaps

    def read(self, table: str) -> pa.Table:
        """Return this source's rows of `kline_gaps` or `kline_revisions`, by symbol and start."""
        if not self.warehouse.is_file():
            return _SCHEMAS[table].empty_table()
        reading = open_warehouse(self.warehouse, read_only=True, wait_s=self.wait_s)
        with self._lock, reading as connection:
            if not connection.sql("FROM duckdb_tables() WHERE table_name = ?", params=[table]):
                return _SCHEMAS[table].empty_table()
            found = connection.sql(
                f"FROM {table} WHERE source = ? AND interval = ? ORDER BY ALL",
                params=[self.source, self.interval.value],
            )
            return found.to_arrow_table().cast(_SCHEMAS[table])

    def replace_open_gaps(self, gaps: Mapping[str, Sequence[Gap]]) -> None:
        """Put gaps in the place of all open ones of some symbols, in one transaction.

        Parameters
        ----------
        gaps : mapping of str to sequence of Gap
            By symbol; the filled ones among them are kept for good.
        """
        rows = [
            self._key(symbol) | _row(gap, self.interval)
            for symbol, found in gaps.items()
            for gap in found
        ]
        table = pa.Table.from_pylist(rows, schema=GAP_SCHEMA)
        with self._lock, open_warehouse(self.warehouse, wait_s=self.wait_s) as connection:
            _create(connection)
            connection.register("found", table)
            with transaction(connection):
                connection.execute(
                    f"DELETE FROM {GAPS_TABLE} WHERE source = ? AND interval = ? "
                    "AND filled_at IS NULL AND list_contains(?, symbol)",
                    [self.source, self.interval.value, list(gaps)],
                )
                connection.execute(f"INSERT INTO {GAPS_TABLE} BY NAME FROM found")

    def record_revisions(self, symbol: str, revisions: pa.Table, seen_at: int) -> None:
        """Add revisions, less those that are the last ones recorded of their candles.

        To be called before the candles are stored: a refresh that is killed in between sees the
        same revisions again.

        Parameters
        ----------
        revisions : pa.Table
            As `merge.revisions` returns them.
        seen_at : int
            The source's clock, ms since the epoch.
        """
        with self._lock, open_warehouse(self.warehouse, wait_s=self.wait_s) as connection:
            _create(connection)
            missing = [n for n in _VALUES if n not in revisions.column_names]
            nulls = pa.nulls(revisions.num_rows, pa.float64())
            for name in missing:  # the mark price has no volume
                revisions = revisions.append_column(name, nulls)
            connection.register("seen", revisions)
            connection.execute(_RECORD, self._key(symbol) | {"seen_at": seen_at})

    def _key(self, symbol: str) -> dict[str, Any]:
        return {"source": self.source, "symbol": symbol, "interval": self.interval.value}


_RECORD = f"""
    INSERT INTO {REVISIONS_TABLE} BY NAME
    SELECT $source AS source, $symbol AS symbol, $interval AS interval, seen.*, $seen_at AS seen_at
    FROM seen ANTI JOIN (
        FROM {REVISIONS_TABLE}
        WHERE source = $source AND symbol = $symbol AND interval = $interval
        QUALIFY row_number() OVER (PARTITION BY start_time ORDER BY seen_at DESC, rowid DESC) = 1
    ) AS recorded ON seen.start_time = recorded.start_time
        AND {" AND ".join(f"seen.{n} IS NOT DISTINCT FROM recorded.{n}" for n in _VALUES)}
"""


def _create(connection: "DuckDBPyConnection") -> None:
    types = {pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}
    for table, schema in _SCHEMAS.items():
        columns = ", ".join(f"{column.name} {types[column.type]}" for column in schema)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")


def _row(gap: Gap, interval: Interval) -> dict[str, Any]:
    return {**vars(gap), "cause": gap.cause.value, "candles": gap.candles(interval)}


def _gap(row: Mapping[str, Any]) -> Gap:
    times = ("first_start", "last_start", "found_at", "checked_at", "filled_at")
    return Gap(cause=GapCause(row["cause"]), **{name: row[name] for name in times})
