"""Funding, mark price and tickers: what the forecasts do not wait for, refreshed every 8 hours."""

from collections.abc import Sequence

import dagster as dg

from flash_pipeline.bybit import TICKER_SCHEMA
from flash_pipeline.defs.assets.market_data import instruments
from flash_pipeline.defs.metadata import (
    column_schema,
    instant,
    newest_candles,
    no_rows,
    note_month_rows,
    readable,
    refresh_metadata,
    rows_by_month,
    table,
)
from flash_pipeline.defs.partitions import MONTHS, require_begun, run_months
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.ingest import (
    Ledger,
    MarkPrices,
    ask_about_known,
    refresh_funding,
    refresh_klines,
)
from flash_pipeline.market import FUNDING_SCHEMA, MARK_CANDLE_SCHEMA
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.funding import FundingStore

GROUP = "reference"
"""Group of these assets, which most of the hourly runs leave out."""


@dg.asset(
    deps=[instruments],
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"bybit", "parquet"},
)
def funding(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, exchange: ExchangeResource
) -> dg.MaterializeResult:
    """Funding settled in each month, by symbol; none where a symbol has none."""
    settings, (first, last) = pipeline.settings(), run_months(context)
    with exchange.sources(settings) as sources:
        symbols = sources.bybit_symbols(pipeline.resolve().data.symbols)
        store = FundingStore(settings.funding)
        refresh = refresh_funding(sources.bybit, store, symbols, first, last)
    require_begun(last, refresh.now)
    note_month_rows(context, rows_by_month(store, symbols, first, last))
    rows = sum(refresh.rows.values())
    context.log.info(f"funding: {rows:,} settlements, {refresh.files_written} files written")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": rows,
            "dagster/column_schema": column_schema(FUNDING_SCHEMA),
            "settlements": dg.MetadataValue.json(refresh.rows),
            "files_written": refresh.files_written,
            "newest": _newest_funding(store, symbols),
            "exchange_clock": instant(refresh.now),
            "path": dg.MetadataValue.path(settings.funding),
        }
    )


def _newest_funding(store: FundingStore, symbols: Sequence[str]) -> dg.TableMetadataValue:
    """Return the newest settlement of each symbol that has one, as a table."""
    rows = [
        readable({"symbol": symbol, **row})
        for symbol in symbols
        for row in store.read_all(symbol).to_pylist()[-1:]
    ]
    return dg.MetadataValue.table(rows) if rows else no_rows("symbol", *FUNDING_SCHEMA.names)


@dg.asset(
    deps=[instruments],
    partitions_def=MONTHS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    kinds={"bybit", "parquet"},
    pool="duckdb",
)
def mark_klines(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, exchange: ExchangeResource
) -> dg.MaterializeResult:
    """Closed candles of the mark price, which liquidations and funding go by."""
    settings, (first, last) = pipeline.settings(), run_months(context)
    store = pipeline.mark_store(settings)
    with exchange.sources(settings) as sources:
        symbols = sources.bybit_symbols(pipeline.resolve().data.symbols)
        source = MarkPrices(sources.bybit)
        ledger = Ledger(settings.warehouse, source.name, store.interval)
        refresh = refresh_klines(
            source, store, symbols, first, last, ledger=ledger, require_candles=False
        )
    require_begun(last, refresh.now)
    note_month_rows(context, rows_by_month(store, symbols, first, last))
    context.log.info(
        f"mark_klines: {refresh.rows:,} candles, {refresh.files_written} files written"
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/column_schema": column_schema(MARK_CANDLE_SCHEMA),
            **refresh_metadata(refresh),
            "newest": newest_candles(store, symbols),
            "path": dg.MetadataValue.path(settings.mark_klines),
        }
    )


@dg.asset(deps=[instruments], group_name=GROUP, kinds={"bybit", "parquet"})
def tickers(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, exchange: ExchangeResource
) -> dg.MaterializeResult:
    """The newest price, open interest, turnover and funding rate of each symbol."""
    settings = pipeline.settings()
    with exchange.sources(settings) as sources:
        symbols = sources.bybit_symbols(pipeline.resolve().data.symbols)
        none = TICKER_SCHEMA.empty_table()
        found, _ = ask_about_known(sources.bybit.tickers, symbols, none)
        pipeline.store(settings).require_kind(synthetic=sources.bybit.is_synthetic())
    write_parquet(found, settings.tickers)
    context.log.info(f"tickers: {found.num_rows} symbols")
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": found.num_rows,
            "dagster/column_schema": column_schema(TICKER_SCHEMA),
            "tickers": table(found),
            "path": dg.MetadataValue.path(settings.tickers),
        }
    )
