"""The daily job that removes what has grown old, and its schedule."""

import json
import time
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.history import databases, old_runs, old_ticks, orphaned_logs
from flash_pipeline.defs.jobs import active_run
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.market import compact_utc, iso_utc
from flash_pipeline.settings import Settings
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

_DAY_MS = 86_400_000
_SHOWN = 200  # rows of the table; the counts are of all
_CONTESTANTS = ("challenger", "champion")


class RetentionConfig(dg.Config):
    """What is kept, and for how long; what is younger than its days stays in any case."""

    dry_run: bool = Field(default=False, description="List what would go, and touch nothing.")
    report_days: int = Field(default=30, ge=1, le=36_500, description="Reports of so many days.")
    reports: int = Field(
        default=100, ge=1, le=1_000_000, description="Newest reports that stay, however old."
    )
    checkpoint_days: int = Field(
        default=7, ge=1, le=36_500, description="Checkpoints of unfinished trainings."
    )
    model_days: int = Field(
        default=2, ge=1, le=36_500, description="Model versions of so many days, with their files."
    )
    model_versions: int = Field(
        default=50, ge=1, le=1_000_000, description="Newest model versions that stay."
    )
    champions: int = Field(
        default=5,
        ge=1,
        le=1_000,
        description="Champions before the present one that stay, to roll back to.",
    )
    mlflow_run_days: int = Field(
        default=14,
        ge=1,
        le=36_500,
        description="MLflow runs of so many days; those of versions that stay, stay.",
    )
    dagster_days: int = Field(
        default=30,
        ge=1,
        le=36_500,
        description="Dagster's runs and event logs; the newest of each asset and partition stay.",
    )
    tick_days: int = Field(
        default=14, ge=1, le=36_500, description="Ticks of schedules and sensors, and their logs."
    )


def prune(settings: Settings, instance: dg.DagsterInstance, config: RetentionConfig) -> Pruning:
    """Remove what has grown old: below the home, which the caller holds, in MLflow, in Dagster.

    Never what an alias, a rollback, the newest contest or a running run needs.

    Raises
    ------
    TrackingUnreachable, WarehouseLocked
        If it cannot be known what is needed: nothing is removed then.
    """
    now = int(time.time() * 1000)
    items = list(_items(settings, instance, config, now))
    pruning = carry_out(items, dry_run=config.dry_run)
    if not config.dry_run and pruning.items:
        from flash_pipeline.training.tracking.pruning import database_files

        for database in (*database_files(settings), *databases(instance)):
            give_back(database)
    return pruning


def _items(
    settings: Settings, instance: dg.DagsterInstance, config: RetentionConfig, now: int
) -> Iterator[Item]:
    from flash_pipeline.training.tracking.pruning import old_models

    def ago(days: int) -> int:
        return now - days * _DAY_MS

    contest = _contest(settings)
    made_at = contest.get("made_at")
    yield from old_models(
        settings,
        keep=config.model_versions,
        champions=config.champions,
        models_before=ago(config.model_days),
        runs_before=ago(config.mlflow_run_days),
        protected=_needed_versions(settings, contest, config.champions),
    )
    yield from old_reports(
        settings.reports,
        before=ago(config.report_days),
        keep=config.reports,
        needed={compact_utc(made_at)} if isinstance(made_at, int) else (),
    )
    yield from old_checkpoints(settings.checkpoints, before=ago(config.checkpoint_days))
    months = (settings.klines, settings.mark_klines, settings.funding)
    stores = [path for folder in months for path in sorted(folder.glob("symbol=*"))]
    folders = (settings.home, settings.reports, settings.checkpoints, *stores)
    yield from leftovers(folders, now=now)
    yield from old_runs(instance, before=ago(config.dagster_days))
    yield from orphaned_logs(instance, before=ago(1))
    yield from old_ticks(instance, before=ago(config.tick_days))


def _contest(settings: Settings) -> dict[str, object]:
    """Return the newest contest as it is stored; empty where there is none that can be read."""
    try:
        found = json.loads(settings.contest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
    # Between the hourly runs, which begin at minute 2: while one is active the next hour is tried.
    cron_schedule="32 3-6 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_retention(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Once a day, in the first half hour from 03:32 UTC in which no run is active."""
    running = active_run(context.instance, Settings.from_environment().home)
    if running is not None:
        return dg.SkipReason(f"run {running} is still active")
    return dg.RunRequest(run_key=f"{context.scheduled_execution_time:%Y-%m-%d}")
