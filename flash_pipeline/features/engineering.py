"""Computes the features from the candle files, in DuckDB, and keeps them in one table."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flash_pipeline.errors import DataError
from flash_pipeline.features.catalog import CATALOG, FEATURE_NAMES, WARMUP_BARS
from flash_pipeline.market import Interval, Month, TimeRange, parse_symbols
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FEATURES_TABLE = "features"
"""Table of one row per symbol and candle: `symbol, start_time, close, volume` and the catalog."""

CATALOG_TABLE = "feature_catalog"
"""Table of one row per feature: `name, unit, warmup, formula, sql`, as the rows were computed."""

_COLUMNS = ("symbol", "start_time", "close", "volume", *FEATURE_NAMES)

SPARSENESS = 30
"""Bars of the grid in which a market that closes has one at least, nights and holidays in."""


@dataclass(frozen=True)
class FeatureRefresh:
    """What a refresh of the features did."""

    rows: int
    """Rows stored of the months asked for."""
    rewritten: int
    """Rows that were computed anew, since their candles or formulas had changed."""
    nulls: dict[str, int]
    """Null values per feature in those months: warm-up, and after a gap."""
    first_start: int | None
    """Oldest candle of the months, ms since the epoch; None where there is none."""
    last_start: int | None
    """Newest candle of the months, ms since the epoch; None where there is none."""


def refresh_features(
    connection: "DuckDBPyConnection",
    store: KlineStore,
    symbols: Iterable[str],
    first: Month,
    last: Month,
    *,
    sessional: Collection[str] = (),
) -> FeatureRefresh:
    """Bring the features of the months `first` to `last` in line with the candle files.

    From the first row whose candle differs from the one it was computed from, or is gone, rows
    are deleted and inserted in one transaction: a new hour is an append computed from the last 25
    candles, a new month a whole month. Rows just after the months that a late backfill completes
    (their warm-up) are computed anew as well. A changed catalog empties the table first.

    Months before `first` whose candles lack features, as after a run that failed in between, are
    brought in line too: nothing downstream looks at a history with holes.

    Parameters
    ----------
    sessional : collection of str
        Symbols whose market closes, for the night or the weekend. Around the clock a window is
        one of time: where a candle of its 24 is missing, the value is null. A market that closes
        never has 24 in a row: there a window is one of rows, the last 24 candles that there are,
        and a change is one from the last candle, also over a night.

    Raises
    ------
    DataError
        If no candle of these symbols is stored.
    """
    symbols = parse_symbols(symbols)
    paths = store.paths(symbols)
    if not paths:
        raise DataError(f"no candles of {', '.join(symbols)} are stored in {store.folder}")
    _create_tables(connection)
    files = [str(path) for path in paths]
    span = months = TimeRange(first.time_range.start, last.time_range.end)
    bare = connection.execute(_FIRST_BARE_SQL, {"paths": files, "before": span.start}).fetchall()
    if bare[0][0] is not None:
        span = TimeRange(Month.containing(bare[0][0]).time_range.start, span.end)
    sparse = SPARSENESS if any(symbol in sessional for symbol in symbols) else 1
    warmup_ms = sparse * WARMUP_BARS * store.interval.milliseconds
    connection.execute(
        _compute_sql(store.interval),
        {
            "paths": files,
            "read_start": span.start - warmup_ms,
            "start": span.start,
            "end": span.end,
            "read_end": span.end + warmup_ms,
            "sessional": list(sessional),
        },
    )
    asked = {"symbols": list(symbols), "start": span.start, "end": span.end}
    with transaction(connection):
        since = connection.execute(_FIRST_CHANGE_SQL, asked).fetchall()[0][0]
        rewritten = 0 if since is None else _rewrite(connection, {**asked, "start": since})
    connection.execute("DROP TABLE computed")
    return _summarise(connection, symbols, months, rewritten)


def read_features(
    connection: "DuckDBPyConnection",
    symbols: Iterable[str],
    since: int,
    until: int | None = None,
) -> pa.Table:
    """Return the features of the symbols within a span, ordered by start and symbol.

    Parameters
    ----------
    since : int
        First candle start, ms since the epoch.
    until : int or None
        First candle start after the span; None for no end.

    Returns
    -------
    pa.Table
        `symbol, start_time, close, volume` and the catalog's columns.
    """
    relation = connection.sql(
        f"SELECT {', '.join(_COLUMNS)} FROM {FEATURES_TABLE} "
        "WHERE list_contains($symbols, symbol) AND start_time >= $since "
        "AND ($until IS NULL OR start_time < $until) ORDER BY start_time, symbol",
        params={"symbols": list(symbols), "since": since, "until": until},
    )
    return relation.to_arrow_table()


def newest_start(connection: "DuckDBPyConnection", symbols: Iterable[str]) -> int | None:
    """Return the newest candle start of any of the symbols, None where none is stored."""
    rows = connection.execute(
        f"SELECT max(start_time) FROM {FEATURES_TABLE} WHERE list_contains($symbols, symbol)",
        {"symbols": list(symbols)},
    ).fetchall()
    return None if rows[0][0] is None else int(rows[0][0])


def _rewrite(connection: "DuckDBPyConnection", asked: dict[str, Any]) -> int:
    connection.execute(
        f"DELETE FROM {FEATURES_TABLE} WHERE start_time >= $start AND ({_ASKED} "
        "OR (symbol, start_time) IN (SELECT (symbol, start_time) FROM computed))",
        asked,
    )
    inserted = connection.execute(
        f"INSERT INTO {FEATURES_TABLE} SELECT {', '.join(_COLUMNS)} FROM computed "
        "WHERE start_time >= $since ORDER BY start_time, symbol",
        {"since": asked["start"]},
    ).fetchall()
    return int(inserted[0][0])


def _create_tables(connection: "DuckDBPyConnection") -> None:
    """Make the tables; start from an empty one where the formulas have changed."""
    values = ", ".join(f"{name} DOUBLE" for name in FEATURE_NAMES)
    wanted = [(f.name, f.unit, f.warmup, f.formula, f.sql) for f in CATALOG]
    with transaction(connection):
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {CATALOG_TABLE} "
            "(name VARCHAR, unit VARCHAR, warmup INTEGER, formula VARCHAR, sql VARCHAR)"
        )
        if connection.execute(f"FROM {CATALOG_TABLE}").fetchall() != wanted:
            connection.execute(f"DROP TABLE IF EXISTS {FEATURES_TABLE}")
            connection.execute(f"DELETE FROM {CATALOG_TABLE}")
            connection.executemany(f"INSERT INTO {CATALOG_TABLE} VALUES (?, ?, ?, ?, ?)", wanted)
        # No primary key: with one, rewriting a month takes a hundred times as long.
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {FEATURES_TABLE} (symbol VARCHAR NOT NULL, "
            f"start_time BIGINT NOT NULL, close DOUBLE NOT NULL, volume DOUBLE NOT NULL, {values})"
        )


def _summarise(
    connection: "DuckDBPyConnection",
    symbols: Sequence[str],
    span: TimeRange,
    rewritten: int,
) -> FeatureRefresh:
    nulls = ", ".join(f"count(*) - count({name})" for name in FEATURE_NAMES)
    row = connection.execute(
        f"SELECT count(*), min(start_time), max(start_time), {nulls} FROM {FEATURES_TABLE} "
        "WHERE list_contains($symbols, symbol) AND start_time >= $start AND start_time < $end",
        {"symbols": list(symbols), "start": span.start, "end": span.end},
    ).fetchall()[0]
    counts = dict(zip(FEATURE_NAMES, row[3:], strict=True))
    return FeatureRefresh(row[0], rewritten, counts, row[1], row[2])


def _compute_sql(interval: Interval) -> str:
    """Return the statement that fills the temporary table `computed`.

    It holds the rows of the span, and those within the warm-up after it that the table of
    features has already of the same candle: a revision after the span is left to its own month,
    which rewrites all that follows it.
    """
    columns = ", ".join(f"{_expand(f.sql, interval)} AS {f.name}" for f in CATALOG)
    step = _apart("lag(start_time) OVER s", interval.milliseconds)
    return f"""
        CREATE OR REPLACE TEMP TABLE computed AS
        WITH candles AS (
            SELECT symbol, start_time, close, volume
            FROM read_parquet($paths, hive_partitioning = true, hive_types = {{'symbol': VARCHAR}})
            WHERE start_time >= $read_start AND start_time < $read_end
        ), steps AS (
            SELECT *,
                CASE WHEN {step} THEN close - lag(close) OVER s END AS change,
                CASE WHEN {step} THEN ln(close / lag(close) OVER s) END AS log_return
            FROM candles
            WINDOW s AS (PARTITION BY symbol ORDER BY start_time)
        ), valued AS (
            SELECT symbol, start_time, close, volume, {columns} FROM steps
        )
        SELECT * FROM valued
        WHERE start_time >= $start AND (start_time < $end OR EXISTS (
            SELECT 1 FROM {FEATURES_TABLE} AS old
            WHERE old.symbol = valued.symbol AND old.start_time = valued.start_time
                AND old.close = valued.close AND old.volume = valued.volume))
    """


def _expand(sql: str, interval: Interval) -> str:
    """Replace `{w:n}` and `{full:n}` of a catalog's expression."""
    rows = "(PARTITION BY symbol ORDER BY start_time"
    sql = re.sub(
        r"\{w:(\d+)\}",
        lambda m: f"{rows} ROWS BETWEEN {int(m[1]) - 1} PRECEDING AND CURRENT ROW)",
        sql,
    )
    return re.sub(
        r"\{full:(\d+)\}",
        lambda m: _apart(
            f"lag(start_time, {int(m[1]) - 1}) OVER {rows})",
            (int(m[1]) - 1) * interval.milliseconds,
        ),
        sql,
    )


def _apart(earlier: str, length: int) -> str:
    """Return the condition that an earlier start is so many ms ago, or known in a sessional row."""
    known = f"list_contains($sessional::VARCHAR[], symbol) AND {earlier} IS NOT NULL"
    return f"(start_time - {earlier} = {length} OR {known})"


_FIRST_BARE_SQL = f"""
    SELECT min(candle.start_time)
    FROM read_parquet($paths, hive_partitioning = true, hive_types = {{'symbol': VARCHAR}})
        AS candle
    ANTI JOIN {FEATURES_TABLE} AS feature
        ON candle.symbol = feature.symbol AND candle.start_time = feature.start_time
    WHERE candle.start_time < $before
"""

_ASKED = "list_contains($symbols, symbol) AND start_time >= $start AND start_time < $end"

# A row has changed when its candle has, or is gone, or when a value has become known or unknown.
# Values are not compared: an appended hour differs from a full computation in the last bit.
_FINGERPRINT = ", ".join(
    ["symbol", "start_time", "close", "volume", *(f"{name} IS NULL" for name in FEATURE_NAMES)]
)
_FIRST_CHANGE_SQL = f"""
    SELECT min(start_time) FROM (
        (SELECT {_FINGERPRINT} FROM computed
        EXCEPT SELECT {_FINGERPRINT} FROM {FEATURES_TABLE} WHERE start_time >= $start)
        UNION ALL
        (SELECT {_FINGERPRINT} FROM {FEATURES_TABLE} WHERE {_ASKED}
        EXCEPT SELECT {_FINGERPRINT} FROM computed)
    )
"""
