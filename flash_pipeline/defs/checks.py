"""Asset checks: what must hold before anything downstream is built."""

import dagster as dg

from flash_pipeline.bybit import audit_klines
from flash_pipeline.defs.assets.market_data import features, klines
from flash_pipeline.defs.assets.model import window_tensors
from flash_pipeline.defs.assets.verdict import forecasts
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.features import audit_features
from flash_pipeline.storage.warehouse import open_warehouse


@dg.asset_check(asset=klines, blocking=True)
def klines_keep_the_contract(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Candles are sorted, unique, on the grid, positive, with low <= open, close <= high."""
    settings = pipeline.settings()
    problems = audit_klines(pipeline.store(settings), pipeline.resolve().data.symbols)
    return _result(problems)


@dg.asset_check(asset=features, blocking=True, pool="duckdb")
def features_match_the_candles(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """Every candle has exactly one row of features, and no row lacks its candle."""
    settings = pipeline.settings()
    store, symbols = pipeline.store(settings), pipeline.resolve().data.symbols
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        problems = audit_features(connection, store, symbols)
    return _result(problems)


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
    return _result(problems)


@dg.asset_check(asset=forecasts, pool="duckdb")
def forecasts_are_unique(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No model has two forecasts of one symbol at one instant."""
    from flash_pipeline.evaluation import audit_forecasts

    with open_warehouse(pipeline.settings().warehouse, read_only=True) as connection:
        return _result(audit_forecasts(connection))


def _result(problems: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems[:10]) or None,
        metadata={"problems": len(problems)},
    )


CHECKS = [
    klines_keep_the_contract,
    features_match_the_candles,
    newest_window_is_fresh,
    forecasts_are_unique,
]
"""Every check of the project."""
