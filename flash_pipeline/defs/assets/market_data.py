"""Instruments, candles and features."""

from collections.abc import Sequence
from functools import partial

import dagster as dg

from flash_pipeline.bybit import INSTRUMENT_SCHEMA, fetch_instruments, store_instruments
from flash_pipeline.defs.metadata import column_schema, refresh_metadata, span
from flash_pipeline.defs.partitions import MONTHS, require_begun, run_months
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.errors import UnknownSymbol
from flash_pipeline.features import CATALOG, refresh_features
from flash_pipeline.ingest import Ledger, ask_about_known, combine, refresh_klines, refuse_empty
from flash_pipeline.market import CANDLE_SCHEMA
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse


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
    table = store_instruments(fetched, settings.instruments)
    rows = [dg.TableRecord(row) for row in table.to_pylist()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": table.num_rows,
            "dagster/column_schema": column_schema(INSTRUMENT_SCHEMA),
            "instruments": dg.MetadataValue.table(rows, column_schema(INSTRUMENT_SCHEMA)),
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
    """Closed candles of each month and symbol: what is missing is fetched, nothing twice."""
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
    """Log return, volatility, volume and price ratios and RSI, in DuckDB window functions."""
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
            "dagster/column_schema": _FEATURES_SCHEMA,
            "dagster/table_name": "warehouse.main.features",
            "rows_computed": refresh.rewritten,
            "span": span(refresh.first_start, refresh.last_start),
            "catalog": dg.MetadataValue.table(catalog),
            "path": dg.MetadataValue.path(settings.warehouse),
        }
    )


_FEATURES_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("symbol", "string", "instrument"),
        dg.TableColumn("start_time", "int64", "candle open, ms since the epoch, UTC"),
        dg.TableColumn("close", "double", "quote coin"),
        dg.TableColumn("volume", "double", "base coin"),
        *(dg.TableColumn(f.name, "double", f"{f.formula} [{f.unit}]") for f in CATALOG),
    ]
)
