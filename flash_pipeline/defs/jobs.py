"""The job from candles to forecasts, with its hourly schedule, and that of the walk-forward."""

from pathlib import Path
from typing import Any

import dagster as dg

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.assets import ASSETS, HOURLY, ON_REQUEST
from flash_pipeline.defs.assets.audits import GROUP as AUDITS
from flash_pipeline.defs.assets.order_book import GROUP as ORDER_BOOK
from flash_pipeline.defs.assets.portfolio import GROUP as PORTFOLIO
from flash_pipeline.defs.assets.walk_forward import GROUP as EVALUATION
from flash_pipeline.defs.due import months_to_refresh
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.defs.resources import PipelineResource, bury_killed_run
from flash_pipeline.errors import ExchangeError
from flash_pipeline.settings import Settings
from flash_pipeline.storage.lock import claim_home, holder

JOB_NAME = "refresh"
"""The job from candles to forecasts."""

WALK_FORWARD_JOB = "evaluate"
"""The job of the walk-forward: a run for each fold, the first of which plans it and the last of
which joins it. The run of a fold is that of its partition, by the tag `dagster/partition`."""

AUDIT_JOB = "audit"
"""The job of the leak audits."""

ORDER_BOOK_JOB = "order_book"
"""The job of the order book: its snapshots, the model and the report."""

PORTFOLIO_JOB = "portfolio"
"""The job of the whole market: its candles, its panel, the portfolio model and the report."""

MAX_RUNTIME_S = 3300
"""A run is ended after this long, before the next hour's tick."""

REFERENCE_HOURS = (0, 8, 16)
"""UTC hours of the runs that refresh funding, mark price and tickers too: most funding settles
then. The others send no more requests than the forecasts need."""

FULL_RETRAIN_JOB = "full_retrain"
"""The job that trains anew from random weights on all stored features, up to the forecasts."""

BACKFILL_JOB = "backfill"
"""The job of market data and features over months or years, without any training."""

LONG_RUNTIME_S = 43_200
"""A run that a person starts is ended after this long."""

_PRIORITY_TAG = "dagster/priority"
_BACKFILL_TAG = "dagster/backfill"
_WALK_FORWARD_ASSETS = {
    asset.key.to_user_string()
    for asset in ASSETS
    if asset.group_names_by_key[asset.key] == EVALUATION
}

_CLOCK_TIMEOUT_S = 2.0
_CLOCK_TOLERANCE_BARS = 3

refresh = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups(*ON_REQUEST),
    description="Everything from raw candles to forecasts, for the months of the run.",
    executor_def=dg.in_process_executor,
    tags={"dagster/max_runtime": str(MAX_RUNTIME_S)},
)

_ON_REQUEST: dict[str, Any] = {
    "executor_def": dg.in_process_executor,
    "tags": {"dagster/max_runtime": str(LONG_RUNTIME_S)},
}

evaluate = dg.define_asset_job(
    WALK_FORWARD_JOB,
    selection=dg.AssetSelection.groups(EVALUATION),
    description="Walk-forward of all models over the stored windows: backfill all of its folds.",
    **_ON_REQUEST,
)

audit = dg.define_asset_job(
    AUDIT_JOB,
    selection=dg.AssetSelection.groups(AUDITS),
    description="Every leak audit of the champion and the challenger.",
    **_ON_REQUEST,
)

full_retrain = dg.define_asset_job(
    FULL_RETRAIN_JOB,
    selection=dg.AssetSelection.groups("model", "verdict"),
    description="Windows of all stored features, a training from random weights, baselines, "
    "report, champion and forecasts. Takes its months from `months` or `start_month` of the "
    "resource `pipeline`; `backfill` stores what they need first.",
    config={"ops": {"trained_model": {"config": {"force": True, "warm_start": False}}}},
    **_ON_REQUEST,
)

backfill = dg.define_asset_job(
    BACKFILL_JOB,
    selection=dg.AssetSelection.assets("klines", "features", "funding", "mark_klines"),
    description="Candles, features, funding and mark price of the chosen months in one run, be "
    "they one or all since 2020; nothing is trained.",
    **_ON_REQUEST,
)

order_book = dg.define_asset_job(
    ORDER_BOOK_JOB,
    selection=dg.AssetSelection.groups(ORDER_BOOK),
    description="The order book: snapshots, model and report.",
    **_ON_REQUEST,
)

portfolio = dg.define_asset_job(
    PORTFOLIO_JOB,
    selection=dg.AssetSelection.groups(PORTFOLIO),
    description="The whole market: candles, panel, portfolio model and report.",
    **_ON_REQUEST,
)


@dg.schedule(
    job_name=JOB_NAME,
    description="Candles, a training, the verdict and forecasts, every hour at minute 2; a tick "
    "that finds a run at work is skipped. Every 8 hours funding, mark price and tickers too.",
    # The top of the hour is when the exchange limits rates, and the closing candle needs a moment.
    cron_schedule="2 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def hourly(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> dg.RunRequest | dg.SkipReason:
    """Every hour at minute 2, unless the last run is still at it.

    Between the folds of a walk-forward the run goes first.
    """
    settings = Settings.from_environment()
    running = active_run(context.instance, settings.home, yielding=True)
    if running is not None:
        return dg.SkipReason(f"run {running} is still active")
    tick = context.scheduled_execution_time
    now = int(tick.timestamp() * 1000)
    if not keeps_time(settings, pipeline, now):
        now = exchange_now(settings, now)
    reference = tick.hour in REFERENCE_HOURS
    first, last = months_to_refresh(settings, pipeline, now, reference=reference)
    return dg.RunRequest(
        run_key=tick.isoformat(),
        tags={**range_tags(first, last), _PRIORITY_TAG: "1"},
        asset_selection=None if reference else HOURLY,
    )


def active_run(instance: dg.DagsterInstance, home: Path, *, yielding: bool = False) -> str | None:
    """Return the id of a run that is at work on a home or about to be, None where there is none.

    A run that held the home and is not finished although the home is free was killed: it is
    buried here, so that it blocks nothing.

    Parameters
    ----------
    yielding : bool
        Leave out the runs of a backfill of the walk-forward: each is one fold, after which a run
        of higher priority is next.
    """
    busy = holder(home)
    if busy is not None:
        run = instance.get_run_by_id(busy)
        if not (yielding and run is not None and _is_fold(run)):
            return busy
    elif home.is_dir():
        with claim_home(home) as claim:
            bury_killed_run(instance, claim)
    waiting = instance.get_runs(dg.RunsFilter(statuses=list(_WAITING)))
    return next((run.run_id for run in waiting if not (yielding and _is_fold(run))), None)


def _is_fold(run: dg.DagsterRun) -> bool:
    """Say whether a run is one of a backfill of the walk-forward, be it of its job or its assets.

    One of the command line holds the home until all folds are done.
    """
    assets = {key.to_user_string() for key in run.asset_selection or ()}
    ours = run.job_name == WALK_FORWARD_JOB or (bool(assets) and assets <= _WALK_FORWARD_ASSETS)
    return ours and _BACKFILL_TAG in run.tags


def keeps_time(settings: Settings, pipeline: PipelineResource, now: int) -> bool:
    """Say whether the stored candles show that the exchange's clock is ours, without asking it.

    They do where the newest of them closed within three bars of `now` (ms since the epoch).
    """
    store = pipeline.store(settings)
    newest = [store.newest_start(symbol) for symbol in pipeline.resolve().data.symbols]
    known = [start for start in newest if start is not None]
    bar = store.interval.milliseconds
    return bool(known) and abs(now - max(known) - bar) <= _CLOCK_TOLERANCE_BARS * bar


def exchange_now(settings: Settings, scheduled_ms: int) -> int:
    """Return the exchange's clock, or the scheduled time where it does not answer in 2 s.

    Both in ms since the epoch. The embedded exchange keeps the scheduled time.
    """
    if not settings.bybit_urls:
        return scheduled_ms
    try:
        with BybitClient(
            settings.bybit_urls,
            circuit_file=settings.bybit_circuit,
            attempts=1,
            read_timeout_s=_CLOCK_TIMEOUT_S,
        ) as client:
            return client.server_time()
    except ExchangeError:
        return scheduled_ms


# Not NOT_STARTED: a command killed as it made its run leaves one behind for good, and nothing but
# a run that is queued or starting will ask for the home.
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)
