"""Checks the features' table against the candle files."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flash_pipeline.features.engineering import FEATURES_TABLE
from flash_pipeline.storage.klines import KlineStore

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def audit_features(
    connection: "DuckDBPyConnection", store: KlineStore, symbols: Iterable[str]
) -> list[str]:
    """Return what is wrong with the stored features, one sentence each; empty if nothing is.

    Every stored candle must have exactly one row, and every row its candle. There is no primary
    key to see to it: with one, rewriting a month takes a hundred times as long.
    """
    symbols = list(symbols)
    paths = [str(path) for path in store.paths(symbols)]
    rows = connection.execute(_AUDIT_SQL, {"symbols": symbols, "paths": paths}).fetchall()
    return [
        f"{symbol}: {twice} rows twice, {bare} candles without features, "
        f"{orphans} rows without a candle"
        for symbol, twice, bare, orphans in rows
    ]


_AUDIT_SQL = f"""
    WITH rows AS (
        SELECT symbol, start_time, count(*) AS copies FROM {FEATURES_TABLE}
        WHERE list_contains($symbols, symbol) GROUP BY ALL
    ), candles AS (
        SELECT symbol, start_time
        FROM read_parquet($paths, hive_partitioning = true, hive_types = {{'symbol': VARCHAR}})
    )
    SELECT
        coalesce(rows.symbol, candles.symbol) AS symbol,
        count(*) FILTER (copies > 1),
        count(*) FILTER (rows.symbol IS NULL),
        count(*) FILTER (candles.symbol IS NULL)
    FROM rows FULL JOIN candles
        ON rows.symbol = candles.symbol AND rows.start_time = candles.start_time
    WHERE copies > 1 OR rows.symbol IS NULL OR candles.symbol IS NULL
    GROUP BY ALL ORDER BY ALL
"""
