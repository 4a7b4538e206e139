"""Checks of candles, features and windows: what must hold before a model sees them."""

import time
from collections.abc import Callable

import dagster as dg

from flash_pipeline.defs.assets.market_data import features, klines
from flash_pipeline.defs.assets.model import window_tensors
from flash_pipeline.defs.assets.reference import funding, mark_klines
from flash_pipeline.defs.checks.outcome import problems_result, warning
from flash_pipeline.defs.partitions import tagged_months
from flash_pipeline.defs.record import (
    MARK_PRICES,
    bybit_symbols,
    candle_gaps,
    mark_gaps,
    source_name,
)
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.features import audit_features
from flash_pipeline.ingest import (
    audit_completeness,
    audit_funding,
    audit_klines,
    doubt_funding,
    doubt_klines,
)
from flash_pipeline.market import Month
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.warehouse import open_warehouse


@dg.asset_check(asset=klines, blocking=True)
def klines_keep_the_contract(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """Candles are sorted, unique, on the grid, closed, positive, and hold together."""
    settings = pipeline.settings()
    store, symbols = pipeline.store(settings), pipeline.resolve().data.symbols
    clock = _clocks(context, klines)
    problems = []
    for symbol in symbols:  # each source was read at a time of its own
        closed_end = store.interval.floor(clock(source_name(settings, symbol)))
        problems += audit_klines(store, [symbol], closed_end=closed_end)
    return problems_result(problems)


@dg.asset_check(asset=klines, pool="duckdb")
def klines_are_complete(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """Every candle of the run's months is stored, or recorded as one that the source lacks."""
    settings = pipeline.settings()
    store, symbols = pipeline.store(settings), pipeline.resolve().data.symbols
    gaps, clock = candle_gaps(settings, store.interval, symbols), _clocks(context, klines)
    months, problems = _run_months(context), []
    for symbol in symbols:
        closed_end = store.interval.floor(clock(source_name(settings, symbol)))
        problems += audit_completeness(store, [symbol], gaps, closed_end=closed_end, months=months)
    return problems_result(problems)


@dg.asset_check(asset=klines)
def klines_are_plausible(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """No jump or spike in the run's months that a person should look at."""
    settings = pipeline.settings()
    store, symbols = pipeline.store(settings), pipeline.resolve().data.symbols
    return warning(doubt_klines(store, symbols, _run_months(context)))


@dg.asset_check(asset=mark_klines)
def mark_klines_keep_the_contract(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """Candles of the mark price are sorted, unique, on the grid, closed and positive."""
    settings = pipeline.settings()
    store, symbols = pipeline.mark_store(settings), pipeline.resolve().data.symbols
    closed_end = store.interval.floor(_clocks(context, mark_klines)(MARK_PRICES))
    return problems_result(audit_klines(store, symbols, closed_end=closed_end))


@dg.asset_check(asset=mark_klines, pool="duckdb")
def mark_klines_are_complete(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """Every candle of the mark price is stored, or recorded as one that the exchange lacks."""
    settings = pipeline.settings()
    store = pipeline.mark_store(settings)
    symbols = bybit_symbols(settings, pipeline.resolve().data.symbols)
    gaps = mark_gaps(settings, store.interval)
    closed_end = store.interval.floor(_clocks(context, mark_klines)(MARK_PRICES))
    months = _run_months(context)
    return problems_result(
        audit_completeness(store, symbols, gaps, closed_end=closed_end, months=months)
    )


@dg.asset_check(asset=funding)
def funding_keeps_the_contract(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Funding is sorted, unique, on the hour and of a size that occurs; a hole is a warning."""
    store = FundingStore(pipeline.settings().funding)
    symbols = pipeline.resolve().data.symbols
    problems = audit_funding(store, symbols)
    return problems_result(problems) if problems else warning(doubt_funding(store, symbols))


@dg.asset_check(asset=features, blocking=True, pool="duckdb")
def features_match_the_candles(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every candle has exactly one row of features, and no row lacks its candle."""
    settings = pipeline.settings()
    store, symbols = pipeline.store(settings), pipeline.resolve().data.symbols
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        problems = audit_features(connection, store, symbols)
    return problems_result(problems)


@dg.asset_check(asset=window_tensors, blocking=True)
def newest_window_is_fresh(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """The newest window ends at the newest stored candle: no forecast is a horizon late."""
    from flash_pipeline.windows import read_windows

    settings = pipeline.settings()
    store = pipeline.store(settings)
    frame = read_windows(settings.windows)
    newest = max(
        (store.newest_start(symbol) or 0 for symbol in frame.symbols),
        default=0,
    )
    late = (newest - int(frame.anchor_N[-1])) // frame.interval.milliseconds
    bounded = pipeline.end_month is not None
    problems = [f"the newest window is {late} bars behind"] if late > 0 and not bounded else []
    return problems_result(problems)


def _clocks(
    context: dg.AssetCheckExecutionContext, asset: dg.AssetsDefinition
) -> Callable[[str], int]:
    """Return what tells a source's clock when it was read last, ms since the epoch, by its name.

    This machine's clock stands in for one that was not read, as before the first refresh.
    """
    event = context.instance.get_latest_materialization_event(asset.key)
    made = event.asset_materialization if event is not None else None
    clocks = made.metadata["clocks"].value if made is not None else {}
    now = int(time.time() * 1000)
    return lambda source: int(str(dict(clocks).get(source, now)))


def _run_months(context: dg.AssetCheckExecutionContext) -> list[Month]:
    """Return the months of the run; the current one where it has none, as of a check alone."""
    months = tagged_months(context.run.tags)
    return [Month.containing(int(time.time() * 1000))] if months is None else list(months)
