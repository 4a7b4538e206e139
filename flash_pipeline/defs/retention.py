"""The daily job that removes what has grown old, and its schedule."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.history import databases, is_below, old_runs, old_ticks, orphaned_logs
from flash_pipeline.defs.jobs import JOB_NAME, active_run
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import FileDamaged, MachineError
from flash_pipeline.market import Interval, Month, compact_utc, iso_utc
from flash_pipeline.order_book.archive import ARCHIVE_FOLDER
from flash_pipeline.settings import Settings
from flash_pipeline.storage.limits import LIMITS
from flash_pipeline.storage.retention import (
    Item,
    Pruning,
    carry_out,
    give_back,
    leftovers,
    old_checkpoints,
    old_reports,
)

MAX_RUNTIME_S = 1200
"""A pruning is ended after this long; the next one goes on."""

DAY_TAG = "flash_pipeline/retention_of"
"""Tag of a run that the schedule asked for: its day, YYYY-MM-DD."""

_FIRST_HOUR, _LAST_HOUR = 3, 6  # UTC, of the schedule's ticks
_UNDONE = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_DAY_MS = 86_400_000
_SHOWN = 200  # rows of the table; the counts are of all
_CONTESTANTS = ("challenger", "champion")


def _limit(name: str) -> Any:  # noqa: ANN401  (pydantic's own)
    limit = LIMITS[name]
    return Field(default=limit.usual, ge=1, le=limit.most, description=limit.words)


class RetentionConfig(dg.Config):
    """What is kept, and for how long; what is younger than its days stays in any case."""

    dry_run: bool = Field(default=False, description="List what would go, and touch nothing.")
    report_days: int = _limit("report_days")
    reports: int = _limit("reports")
    checkpoint_days: int = _limit("checkpoint_days")
    model_days: int = _limit("model_days")
    model_versions: int = _limit("model_versions")
    champions: int = _limit("champions")
    mlflow_run_days: int = _limit("mlflow_run_days")
    dagster_days: int = _limit("dagster_days")
    tick_days: int = _limit("tick_days")
    clock_days: int = _limit("clock_days")


def prune(settings: Settings, instance: dg.DagsterInstance, config: RetentionConfig) -> Pruning:
    """Remove what has grown old: below the home, which the caller holds, in MLflow, in Dagster.

    Never what an alias, a rollback, the newest contest or a running run needs.

    Raises
    ------
    TrackingUnreachable, WarehouseLocked, FileDamaged
        If it cannot be known what is needed: nothing is removed then.
    MachineError
        If this machine's clock is further than `clock_days` from the newest candle, by month, or
        from the newest `refresh` where no candle is stored: ages by it would be wrong.
    """
    now = int(time.time() * 1000)
    _require_clock(settings, instance, now, config.clock_days)
    items = list(_items(settings, instance, config, now))
    pruning = carry_out(items, dry_run=config.dry_run)
    if not config.dry_run and pruning.items:
        from flash_pipeline.training.tracking.pruning import database_files

        ours = databases(instance) if is_below(instance, settings.home) else []
        for database in (*database_files(settings), *ours):
            give_back(database)
    return pruning


def _items(
    settings: Settings, instance: dg.DagsterInstance, config: RetentionConfig, now: int
) -> Iterator[Item]:
    from flash_pipeline.training.tracking import MODEL_NAME
    from flash_pipeline.training.tracking.pruning import old_models

    def ago(days: int) -> int:
        return now - days * _DAY_MS

    contest = _stored(settings.contest)
    made_at = contest.get("made_at")
    yield from old_models(
        settings,
        keep=config.model_versions,
        champions=config.champions,
        models_before=ago(config.model_days),
        runs_before=ago(config.mlflow_run_days),
        protected={
            MODEL_NAME: _needed_versions(settings, contest, config.champions),
            **_needed_sequences(settings),
        },
    )
    yield from old_reports(
        settings.reports,
        before=ago(config.report_days),
        keep=config.reports,
        needed={compact_utc(made_at)} if isinstance(made_at, int) else (),
    )
    yield from old_checkpoints(settings.checkpoints, before=ago(config.checkpoint_days))
    yield from leftovers(_written_to(settings), now=now)
    if not is_below(instance, settings.home):  # other people's runs may be in it
        return
    yield from old_runs(instance, before=ago(config.dagster_days))
    yield from orphaned_logs(instance, before=ago(1))
    yield from old_ticks(instance, before=ago(config.tick_days))


def _written_to(settings: Settings) -> Iterator[Path]:
    """Yield the folders that a killed process may leave temporary files in."""
    yield from (settings.home, settings.reports, settings.checkpoints, settings.walk_forward)
    yield from (path for path in sorted(settings.checkpoints.glob("*")) if path.is_dir())
    fetched = settings.order_book / ARCHIVE_FOLDER
    yield from (fetched, *(path for path in sorted(fetched.rglob("*")) if path.is_dir()))
    for folder in (settings.klines, settings.mark_klines, settings.funding, settings.order_book):
        yield from sorted(folder.glob("symbol=*"))


def _require_clock(settings: Settings, instance: dg.DagsterInstance, now: int, days: int) -> None:
    """Refuse a clock that what is stored speaks against; ms since the epoch."""
    paths = settings.klines.glob("symbol=*/month=*.parquet")
    months = [Month.parse(path.stem.removeprefix("month=")) for path in paths]
    if months:
        what, span = "candles are", max(months).time_range
        first, last = span.start, span.end
    else:
        newest = instance.get_run_records(dg.RunsFilter(job_name=JOB_NAME), limit=1)
        if not newest:
            return
        first = last = int(newest[0].create_timestamp.timestamp() * 1000)
        what = "run is"
    slack = days * Interval.DAY_1.milliseconds
    if not first - slack <= now <= last + slack:
        raise MachineError(
            f"this machine's clock says {iso_utc(now)}, and the newest {what} of {iso_utc(first)}, "
            f"more than {days} days away: nothing is removed. Set the clock, run `{JOB_NAME}`, or "
            "raise clock_days"
        )


def _stored(path: Path) -> dict[str, object]:
    """Return what a JSON file says is in use; empty where there is none.

    Raises
    ------
    FileDamaged
        If it cannot be read: what it needs is not known then.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FileDamaged(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise FileDamaged(f"{path} holds {type(found).__name__}: expected an object")
    return found


def _needed_sequences(settings: Settings) -> dict[str, set[str]]:
    """Return the versions that the newest decisions and forecasts come from, by model."""
    from flash_pipeline.training import book_results, portfolio_session
    from flash_pipeline.training.tracking.sequences import ORDER_BOOK_MODEL, PORTFOLIO_MODEL

    sessions = {
        ORDER_BOOK_MODEL: book_results.results_folder(settings) / book_results.SESSION_FILE,
        PORTFOLIO_MODEL: settings.portfolio / portfolio_session.SESSION_FILE,
    }
    named = {name: _stored(path).get("version") for name, path in sessions.items()}
    return {name: {str(version)} for name, version in named.items() if version is not None}


def _needed_versions(settings: Settings, contest: dict[str, object], champions: int) -> set[str]:
    """Return the versions of the newest contest, and those that a rollback goes back to."""
    from flash_pipeline.evaluation.reigns import past_champions
    from flash_pipeline.storage.warehouse import open_warehouse

    needed = {str(contest["rival"])} if contest.get("rival") else set()
    for name in _CONTESTANTS:
        contestant = contest.get(name)
        if isinstance(contestant, dict):
            needed.add(str(contestant.get("version")))
    if settings.warehouse.is_file():
        with open_warehouse(settings.warehouse, read_only=True) as connection:
            needed |= set(past_champions(connection, champions))
    return needed


@dg.op(description="Removes what has grown old, and lists it with its bytes.")
def remove_what_is_old(
    context: dg.OpExecutionContext, config: RetentionConfig, pipeline: PipelineResource
) -> None:
    """Prune the home; the resource holds it meanwhile."""
    pruning = prune(pipeline.settings(), context.instance, config)
    verb = "would go" if pruning.dry_run else "removed"
    for kind, (count, size) in pruning.by_kind().items():
        context.log.info(f"retention: {count} x {kind} {verb}, {size:,} bytes")
    context.log.info(f"retention: {len(pruning.items)} in all {verb}, {pruning.size:,} bytes")
    for item, reason in pruning.failed:
        context.log.warning(f"retention: {item.kind} {item.name} stays: {reason}")
    context.add_output_metadata(
        {
            "dry_run": pruning.dry_run,
            "items": len(pruning.items),
            "bytes": pruning.size,
            "failed": len(pruning.failed),
            "listed": dg.MetadataValue.table([_record(item) for item in pruning.items[:_SHOWN]])
            if pruning.items
            else "nothing is old enough",
        }
    )
    if pruning.failed:
        item, reason = pruning.failed[0]
        raise dg.Failure(f"{len(pruning.failed)} stay, first {item.kind} {item.name}: {reason}")


def _record(item: Item) -> dg.TableRecord:
    return dg.TableRecord(
        {"kind": item.kind, "name": item.name, "bytes": item.size, "of": iso_utc(item.time)}
    )


@dg.job(
    description="Removes old reports, checkpoints, leftovers, model versions, MLflow runs and "
    "Dagster's records; `dry_run` lists them only.",
    executor_def=dg.in_process_executor,
    tags={"dagster/max_runtime": str(MAX_RUNTIME_S)},
)
def retention() -> None:
    """Prune the home."""
    remove_what_is_old()


@dg.schedule(
    job=retention,
    description="Removes what has grown old, once a day: at 03:32 UTC, or at the first of the next "
    "three hours in which no run is active; one that failed is asked for again.",
    # Between the hourly runs, which begin at minute 2: while one is active the next hour is tried.
    cron_schedule=f"32 {_FIRST_HOUR}-{_LAST_HOUR} * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_retention(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Once a day, at 03:32 UTC or at the first of the next three hours without an active run.

    Where there is none, the last tick's run waits for its turn. One that failed, as behind a
    command that held the home for long, is asked for again at the next tick.
    """
    tick = context.scheduled_execution_time
    day = f"{tick:%Y-%m-%d}"
    asked = context.instance.get_runs(dg.RunsFilter(job_name=retention.name, tags={DAY_TAG: day}))
    for run in asked:
        if run.status not in _UNDONE:
            return dg.SkipReason(f"run {run.run_id} is that of {day}")
    running = active_run(context.instance, Settings.from_environment().home)
    if running is not None and tick.hour < _LAST_HOUR:
        return dg.SkipReason(f"run {running} is still active")
    return dg.RunRequest(run_key=tick.isoformat(), tags={DAY_TAG: day})
