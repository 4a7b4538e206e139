"""Instruments, candles and features."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg

from flash_pipeline.bybit import INSTRUMENT_SCHEMA, fetch_instruments, store_instruments
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import (
    column_schema,
    newest_candles,
    no_rows,
    note_month_rows,
    readable,
    refresh_metadata,
    rows_by_month,
    span,
    table,
)
from flash_pipeline.defs.partitions import MONTHS, require_begun, run_months
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.errors import UnknownSymbol
from flash_pipeline.features import CATALOG, FEATURE_NAMES, FEATURES_TABLE, refresh_features
from flash_pipeline.ingest import Ledger, ask_about_known, combine, refresh_klines, refuse_empty
from flash_pipeline.market import CANDLE_SCHEMA
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dg.asset(group_name="market_data", kinds={"bybit", "parquet"})
def instruments(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, exchange: ExchangeResource
) -> dg.MaterializeResult:
    """Specifications of the traded perpetuals: tick, quantity step, funding interval, launch.

    Of one that the exchange knows no more, and of which candles are stored, the old row stays.
    """
    settings = pipeline.settings()
    store = pipeline.store(settings)
    with exchange.sources(settings) as sources:
        symbols = sources.bybit_symbols(pipeline.resolve().data.symbols)
        none = INSTRUMENT_SCHEMA.empty_table()
        fetched, unknown = ask_about_known(partial(fetch_instruments, sources.bybit), symbols, none)
        store.require_kind(synthetic=sources.bybit.is_synthetic())
    _require_traded_once(context, store, unknown)
    stored = store_instruments(fetched, settings.instruments)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": stored.num_rows,
            "dagster/column_schema": column_schema(INSTRUMENT_SCHEMA),
            "instruments": table(stored),
            "path": dg.MetadataValue.path(settings.instruments),
        }
    )


@dg.asset(
    deps=[instruments],
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="market_data",
    kinds={"bybit", "parquet"},
    pool="duckdb",
)
def klines(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, exchange: ExchangeResource
) -> dg.MaterializeResult:
    """Closed candles of each month and symbol: what is missing is fetched, nothing twice.

    One Parquet file per symbol and month below `klines/`. The newest three candles are always read
    again; what the exchange lacks is recorded with its cause. Backfill any months, in one run.
    """
    settings, recipe = pipeline.settings(), pipeline.resolve()
    store = pipeline.store(settings)
    first, last = run_months(context)
    with exchange.sources(settings) as sources:
        refresh = combine(
            [
                refresh_klines(
                    source,
                    store,
                    symbols,
                    first,
                    last,
                    ledger=Ledger(settings.warehouse, source.name, store.interval),
                    require_candles=False,
                )
                for source, symbols in sources.groups(recipe.data.symbols)
            ]
        )
    require_begun(last, refresh.now)
    refuse_empty(refresh)
    note_month_rows(context, rows_by_month(store, recipe.data.symbols, first, last))
    if refresh.forgotten:
        context.log.warning(f"klines: {', '.join(refresh.forgotten)} counts as delisted")
    context.log.info(
        f"klines: {refresh.rows:,} candles stored, {refresh.requests} requests, "
        f"{refresh.files_written} files written, {refresh.missing} candles missing"
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/column_schema": column_schema(CANDLE_SCHEMA),
            **refresh_metadata(refresh),
            "newest": newest_candles(store, recipe.data.symbols),
            "symbols": dg.MetadataValue.json(list(recipe.data.symbols)),
            "path": dg.MetadataValue.path(settings.klines),
        }
    )


def _require_traded_once(
    context: dg.AssetExecutionContext, store: KlineStore, unknown: Sequence[str]
) -> None:
    """Warn of symbols that the exchange has forgotten.

    Raises
    ------
    UnknownSymbol
        With those of which no candle is stored.
    """
    never = [symbol for symbol in unknown if not store.months(symbol)]
    if never:
        names = ", ".join(map(repr, never))
        raise UnknownSymbol(
            f"the exchange does not know {names}: not listed, and no candle is stored",
            symbol=never[0],
        )
    if unknown:
        context.log.warning(f"the exchange knows {', '.join(unknown)} no more: delisted")


@dg.asset(
    deps=[klines],
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="market_data",
    kinds={"duckdb", "sql"},
    pool="duckdb",
)
def features(context: dg.AssetExecutionContext, pipeline: PipelineResource) -> dg.MaterializeResult:
    """Log return, volatility, volume and price ratios and RSI, in DuckDB window functions.

    The table `features` of `warehouse.duckdb`: a row for each candle, null where a formula's window
    is not full. Only what has changed since the last run is computed again.
    """
    settings, recipe = pipeline.settings(), pipeline.resolve()
    store = pipeline.store(settings)
    with open_warehouse(settings.warehouse) as connection:
        refresh = refresh_features(
            connection,
            store,
            recipe.data.symbols,
            *run_months(context),
            sessional=[symbol for symbol, _ in settings.yahoo_tickers],
        )
        newest = _newest_features(connection)
        of_months = connection.execute(_MONTH_ROWS_SQL, {"symbols": list(recipe.data.symbols)})
        note_month_rows(context, dict(of_months.fetchall()))
    context.log.info(f"features: {refresh.rows:,} rows, {refresh.rewritten:,} of them computed")
    catalog = [
        dg.TableRecord(
            {
                "feature": feature.name,
                "unit": feature.unit,
                "formula": feature.formula,
                "nulls": refresh.nulls[feature.name],
            }
        )
        for feature in CATALOG
    ]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": refresh.rows,
            "dagster/column_schema": FEATURES_SCHEMA,
            **column_lineage("features"),
            "dagster/table_name": "warehouse.main.features",
            "rows_computed": refresh.rewritten,
            "span": span(refresh.first_start, refresh.last_start),
            "catalog": dg.MetadataValue.table(catalog),
            "newest": newest,
            "nulls": sum(refresh.nulls.values()),
            "path": dg.MetadataValue.path(settings.warehouse),
        }
    )


def _newest_features(connection: "DuckDBPyConnection") -> dg.TableMetadataValue:
    """Return the newest row of each symbol as a table."""
    found = connection.sql(_NEWEST_SQL)
    rows = [readable(dict(zip(found.columns, row, strict=True))) for row in found.fetchall()]
    return dg.MetadataValue.table(rows) if rows else no_rows("symbol", *FEATURE_NAMES)


_NEWEST_SQL = f"""
    SELECT symbol, start_time, {", ".join(FEATURE_NAMES)} FROM {FEATURES_TABLE}
    WHERE start_time = (SELECT max(start_time) FROM {FEATURES_TABLE}) ORDER BY symbol
"""

_MONTH_ROWS_SQL = f"""
    SELECT strftime(make_timestamp(start_time * 1000), '%Y-%m'), count(*) FROM {FEATURES_TABLE}
    WHERE list_contains($symbols, symbol) GROUP BY 1
"""

FEATURES_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "string", "instrument"),
        dg.TableColumn("start_time", "int64", "candle open, ms since the epoch, UTC"),
        dg.TableColumn("close", "double", "quote coin"),
        dg.TableColumn("volume", "double", "base coin"),
        *(dg.TableColumn(f.name, "double", f"{f.formula} [{f.unit}]") for f in CATALOG),
    ]
)
"""Columns of the features."""
