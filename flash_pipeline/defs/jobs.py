"""The job over the whole graph, and the schedule that runs it every hour."""

import os
import socket

import dagster as dg

from flash_pipeline.bybit import BybitClient
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import ExchangeError
from flash_pipeline.market import Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore

JOB_NAME = "refresh"
"""The job over the whole graph."""

PROCESS_TAG = "flash_pipeline/process"
"""Run tag: host and process id of a run that the command line executes."""

MAX_RUNTIME_S = 3300
"""A run is ended after this long, before the next hour's tick."""

_CLOCK_TIMEOUT_S = 2.0
_MINUTE_MS = 60_000

refresh = dg.define_asset_job(
    JOB_NAME,
    selection=dg.AssetSelection.all(),
    description="Everything from raw candles to forecasts, for the months of the run.",
    # One process: starting one per step takes longer than most steps.
    executor_def=dg.in_process_executor,
    tags={"dagster/max_runtime": str(MAX_RUNTIME_S)},
)


@dg.schedule(
    job_name=JOB_NAME,
    # The top of the hour is when the exchange limits rates, and the closing candle needs a moment.
    cron_schedule="2 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def hourly(
    context: dg.ScheduleEvaluationContext, pipeline: PipelineResource
) -> dg.RunRequest | dg.SkipReason:
    """Every hour at minute 2, unless the last run is still at it."""
    running = active_run(context.instance)
    if running is not None:
        return dg.SkipReason(f"run {running.run_id} of the hour before is still active")
    settings = Settings.from_environment()
    tick = context.scheduled_execution_time
    first, last = months_to_refresh(
        settings, pipeline, exchange_now(settings, int(tick.timestamp() * 1000))
    )
    return dg.RunRequest(run_key=tick.isoformat(), tags=range_tags(first, last))


def active_run(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """Return a run of the job that is not finished, None where there is none.

    A run that the command line executed names its process. Where that process is gone, the run
    was killed: it is marked failed here, so that it blocks nothing.
    """
    unfinished = dg.RunsFilter(job_name=JOB_NAME, statuses=list(_UNFINISHED))
    for run in instance.get_runs(unfinished):
        if _is_dead(run.tags.get(PROCESS_TAG)):
            instance.report_run_failed(run, "the process that executed this run is gone")
        else:
            return run
    return None


def process_tag() -> dict[str, str]:
    """Return the tag by which a run names the process that executes it."""
    return {PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}"}


def exchange_now(settings: Settings, scheduled_ms: int) -> int:
    """Return the exchange's clock, or the scheduled time where it does not answer in 2 s.

    Both in ms since the epoch. The embedded exchange keeps the scheduled time.
    """
    if settings.bybit_url is None:
        return scheduled_ms
    try:
        with BybitClient(settings.bybit_url, attempts=1, read_timeout_s=_CLOCK_TIMEOUT_S) as client:
            return client.server_time()
    except ExchangeError:
        return scheduled_ms


def months_to_refresh(
    settings: Settings, pipeline: PipelineResource, now: int
) -> tuple[Month, Month]:
    """Return the months of an hourly run at an instant (ms since the epoch).

    The current month, and the one before it while the newest three candles, which are always
    read again, reach into it. Where the history of the recipe is not stored yet, or months are
    missing after a pause, the run begins at the first month that lacks a file.
    """
    recipe = pipeline.resolve()
    store = KlineStore(settings.klines, recipe.interval)
    current = Month.containing(now)
    wanted_from = current.shift(1 - recipe.data.months)
    reread_from = Month.containing(now - 4 * recipe.interval.milliseconds)
    stored = [set(store.months(symbol)) for symbol in recipe.data.symbols]
    month = wanted_from
    while month < reread_from and any(month in months for months in stored):
        month = month.shift(1)
    # A month that was the current one at the last run before a pause is there, but not whole.
    if month > wanted_from:
        newest = max(months[-1] for s in recipe.data.symbols if (months := store.months(s)))
        month = min(month, max(newest, wanted_from))
    return min(month, reread_from), current


def _is_dead(process: str | None) -> bool:
    host, _, pid = (process or "").rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
