"""How old the data are, by their own time and not by when an asset was materialized last.

The freshness policy of an asset goes by its last materialization, and a backfill of an old month is
one: these checks go by the newest candle.
"""

import time

import dagster as dg

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.assets.forecasts import forecasts
from flash_pipeline.defs.assets.market_data import features, klines
from flash_pipeline.defs.checks.outcome import not_checked, problems_result
from flash_pipeline.defs.metadata import instant
from flash_pipeline.defs.record import bybit_symbols
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.features import newest_start
from flash_pipeline.market import Interval, iso_utc
from flash_pipeline.storage.warehouse import open_warehouse

_HOUR_MS = 3_600_000


@dg.asset_check(asset=features, pool="duckdb")
def features_are_fresh(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """The newest row is of the newest closed candle: an hour late warns, two are an error."""
    settings, interval = pipeline.settings(), pipeline.resolve().interval
    symbols = bybit_symbols(settings, pipeline.resolve().data.symbols)
    if not symbols:
        return not_checked("no symbol is traded around the clock")
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        newest = newest_start(connection, symbols)
    closed = None if newest is None else newest + interval.milliseconds
    return _freshness(context, pipeline, closed, interval)


@dg.asset_check(asset=forecasts, pool="duckdb")
def forecasts_are_fresh(
    context: dg.AssetCheckExecutionContext, pipeline: PipelineResource
) -> dg.AssetCheckResult:
    """The newest forecast is of the newest closed candle: an hour late warns, two are an error."""
    settings, recipe = pipeline.settings(), pipeline.resolve()
    if not bybit_symbols(settings, recipe.data.symbols):
        return not_checked("no symbol is traded around the clock")
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        ((made_at,),) = connection.execute("SELECT max(made_at) FROM forecasts").fetchall()
    return _freshness(context, pipeline, made_at, recipe.interval)


def _freshness(
    context: dg.AssetCheckExecutionContext,
    pipeline: PipelineResource,
    closed: int | None,
    interval: Interval,
) -> dg.AssetCheckResult:
    """Return whether what closed at an instant (ms since the epoch) is the newest there is."""
    if pipeline.end_month is not None:
        return not_checked(f"the windows of this run end with {pipeline.end_month}")
    if closed is None:
        return problems_result(["nothing is stored"])
    now = _exchange_clock(context)
    late = max(0, interval.floor(now) - closed)
    hour = max(_HOUR_MS, interval.milliseconds)
    words = f"the newest is of {iso_utc(closed)}, the exchange's clock says {iso_utc(now)}"
    result = problems_result([words] if late >= hour else [], _severity(late, 2 * hour))
    return result.with_metadata(
        {"newest": instant(closed), "late_bars": late // interval.milliseconds}
    )


def _severity(late: int, limit: int) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if late < limit else dg.AssetCheckSeverity.ERROR


def _exchange_clock(context: dg.AssetCheckExecutionContext) -> int:
    """Return the exchange's clock: as the candles' last refresh read it, and the time since.

    This machine's clock where none was read. In ms since the epoch.
    """
    now = int(time.time() * 1000)
    event = context.instance.get_latest_materialization_event(klines.key)
    made = event.asset_materialization if event is not None else None
    if event is None or made is None or "clocks" not in made.metadata:
        return now
    read = dict(made.metadata["clocks"].value or {}).get(BybitClient.name)
    return now if read is None else int(read) + max(0, now - int(event.timestamp * 1000))
