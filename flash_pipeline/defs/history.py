"""Dagster's own record of runs and ticks: what of it is old enough to go.

A run that made the newest materialization of an asset, or of one of its partitions, stays however
old it is: without it the asset would count as never made. Dagster empties the event log of a
deleted run and leaves its file, one for each run; here the file goes too.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import dagster as dg

from flash_pipeline.storage.retention import Item, file_size, modified, remove_tree, tree_size

FINISHED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
"""Statuses of a run that can go."""

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHARD_ENDINGS = ("", "-wal", "-shm", "-journal")
_TICK_LOGS = ("*.err", "*.out", "*.complete")

# Dagster keeps every evaluation of a check; of a deleted run, only the newest one of a check stays.
_FORGET_CHECKS_SQL = (
    "DELETE FROM asset_check_executions WHERE run_id = :run_id AND id NOT IN "
    "(SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name)"
)


def old_runs(instance: dg.DagsterInstance, *, before: int) -> Iterator[Item]:
    """Yield the finished runs made before an instant (ms since the epoch), oldest first."""
    moment = datetime.fromtimestamp(before / 1000, tz=UTC)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=list(FINISHED), created_before=moment), ascending=True
    )
    if not records:
        return
    needed = _newest_makers(instance)
    for record in records:
        run_id = record.dagster_run.run_id
        if run_id not in needed:
            created = int(record.create_timestamp.timestamp() * 1000)
            yield _run_item(instance, run_id, created)


def orphaned_logs(instance: dg.DagsterInstance, *, before: int) -> Iterator[Item]:
    """Yield event logs and output of runs that are deleted already, as by hand in the UI.

    Parameters
    ----------
    before : int
        Ms since the epoch; younger files stay: their run may be about to be recorded.
    """
    shards = _shard_path(instance)
    found = set()
    if shards is not None:
        found |= {path.stem for path in shards("x").parent.glob("*.db")}
    storage = Path(instance.storage_directory())
    found |= {path.name for path in storage.glob("*-*-*-*-*")} if storage.is_dir() else set()
    for run_id in sorted(name for name in found if _RUN_ID.fullmatch(name)):
        if not instance.has_run(run_id):
            item = _run_item(instance, run_id, 0)
            written = max((modified(path) or 0 for path in _files(instance, run_id)), default=0)
            if written < before:
                yield Item("Dagster log", run_id, item.size, written, item.remove)


def old_ticks(instance: dg.DagsterInstance, *, before: int) -> Iterator[Item]:
    """Yield, for each schedule and sensor, its ticks before an instant, and what they logged.

    A sensor leaves a file for each tick, empty ones too. How many rows go is not known before.
    """
    if instance.schedule_storage is None:  # of an instance in memory
        return
    storage = Path(instance.storage_directory())
    for state in instance.all_instigator_state():
        # <storage>/<repository>/<schedule or sensor>/<tick>.err
        folders = list(storage.glob(f"*/{state.instigator_name}"))
        old = [
            path
            for folder in folders
            for pattern in _TICK_LOGS
            for path in folder.glob(pattern)
            if (written := modified(path)) is not None and written < before
        ]
        rows = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, before=before / 1000, limit=1
        )
        if old or rows:
            remove = partial(
                _remove_ticks,
                instance,
                state.instigator_origin_id,
                state.selector_id,
                before / 1000,
                old,
            )
            size = sum(file_size(path) for path in old)
            yield Item("Dagster ticks", state.instigator_name, size, before, remove)


def is_below(instance: dg.DagsterInstance, home: Path) -> bool:
    """Say whether an instance is stored below a home, so that nobody else's runs are in it."""
    return Path(instance.storage_directory()).resolve().is_relative_to(home.resolve())


def databases(instance: dg.DagsterInstance) -> list[Path]:
    """Return Dagster's sqlite files, to give their unused pages back."""
    shards = _shard_path(instance)
    if shards is None:
        return []
    history = shards("index").parent.parent
    return [shards("index"), history / "runs.db", history.parent / "schedules" / "schedules.db"]


def _newest_makers(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that made the newest materialization of an asset or a partition."""
    needed: set[str] = set()
    keys = list(instance.get_asset_keys())
    for event in instance.get_latest_materialization_events(keys).values():
        if event is not None:
            needed.add(event.run_id)
    for key in keys:
        newest = instance.event_log_storage.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        if newest:
            records = instance.fetch_materializations(
                dg.AssetRecordsFilter(key, storage_ids=list(newest.values())), limit=len(newest)
            ).records
            needed |= {record.run_id for record in records}
    return needed


def _run_item(instance: dg.DagsterInstance, run_id: str, created: int) -> Item:
    size = sum(tree_size(path) for path in _files(instance, run_id))
    return Item("Dagster run", run_id, size, created, partial(_remove_run, instance, run_id))


def _remove_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove a run, its row last: until that is gone, it is found again."""
    # Dagster's storage and what is below it take half a second: not for the UI to load.
    from dagster._core.storage.event_log import SqliteEventLogStorage
    from sqlalchemy import text

    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):  # its file goes, so only the index is emptied
        with storage.index_connection() as connection:
            storage.delete_events_for_run(connection, run_id)
            connection.execute(text(_FORGET_CHECKS_SQL), {"run_id": run_id})
        storage.free_concurrency_slots_for_run(run_id)
    else:
        storage.delete_events(run_id)
    for path in _files(instance, run_id):
        remove_tree(path)
    instance.run_storage.delete_run(run_id)


def _remove_ticks(
    instance: dg.DagsterInstance, origin: str, selector: str, before_s: float, logs: list[Path]
) -> None:
    for path in logs:
        path.unlink(missing_ok=True)
    instance.purge_ticks(origin, selector, before_s)


def _files(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Return the files of a run: its event log, and the folder of its steps' output."""
    found = [Path(instance.storage_directory()) / run_id]
    shards = _shard_path(instance)
    if shards is not None:
        shard = shards(run_id)
        found += [shard.with_name(shard.name + ending) for ending in _SHARD_ENDINGS]
    return [path for path in found if path.is_symlink() or path.exists()]


def _shard_path(instance: dg.DagsterInstance) -> Callable[[str], Path] | None:
    """Return what gives the event log's file of a run; None where it is no file each."""
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        return None
    return lambda run_id: Path(storage.path_for_shard(run_id))
