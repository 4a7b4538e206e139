"""Doctor on the home: room, rights, and who holds what in it."""

import os
import re
import shutil
from pathlib import Path

from flash_pipeline.cli.doctor.finding import Finding
from flash_pipeline.cli.doctor.processes import describe, holders_of
from flash_pipeline.errors import HomeNotWritable, WarehouseLocked, WarehouseUnusable
from flash_pipeline.settings import Settings

_GIB = 2**30
_LOW_GIB, _LEAST_GIB = 5.0, 0.5
_MEND_WAREHOUSE = "move the file away: the next run makes it anew, without the past forecasts"


def check_folders(settings: Settings, dagster_home: str | None) -> list[Finding]:
    """Say whether the home, and Dagster's where it is elsewhere, can be written."""
    findings = [_writable("home", settings.home, "FLASH_PIPELINE_HOME")]
    if findings[0].status == "ok" and settings.home.is_dir():
        try:
            settings.require_home()
        except HomeNotWritable as error:
            findings = [Finding("home", "fail", str(error), _mend("FLASH_PIPELINE_HOME"))]
    if dagster_home:
        folder = Path(dagster_home).expanduser().resolve()
        findings.append(_writable("dagster home", folder, "DAGSTER_HOME"))
    return findings


def check_disk(settings: Settings) -> Finding:
    """Say how much room there is below the home."""
    free = shutil.disk_usage(_existing(settings.home)).free / _GIB
    found = f"{free:,.1f} GiB free below {settings.home}"
    mend = "free some, or set FLASH_PIPELINE_HOME to a larger disk"
    if free < _LEAST_GIB:
        return Finding("disk", "fail", found, mend)
    return Finding("disk", "warn", found, mend) if free < _LOW_GIB else Finding("disk", "ok", found)


def check_run(settings: Settings) -> Finding:
    """Say whether a run holds the home."""
    from flash_pipeline.storage.lock import holder

    try:
        run = holder(settings.home)
    except OSError as error:
        return Finding("run", "fail", f"the home's lock cannot be read: {error}", _mend("the home"))
    if run is None:
        return Finding("run", "ok", "none is active")
    pids = [pid for pid in holders_of(settings.home / ".run.lock") if pid != os.getpid()]
    by = f", by {', '.join(map(describe, pids))}" if pids else ""
    mend = "wait for it, or end it in the UI; until then run, import, promote and rollback refuse"
    return Finding("run", "warn", f"run {run} is active{by}", mend)


def check_warehouse(settings: Settings) -> Finding:
    """Say whether the DuckDB file can be read, and who holds it where not."""
    import duckdb

    from flash_pipeline.storage.warehouse import open_warehouse

    path = settings.warehouse
    if not path.is_file():
        return Finding("warehouse", "ok", f"{path} is not there yet: the first run makes it")
    try:
        with open_warehouse(path, read_only=True, wait_s=0) as connection:
            tables = len(connection.execute("SHOW TABLES").fetchall())
    except WarehouseLocked as error:
        pid = re.search(r"PID (\d+)", str(error))
        by = describe(int(pid[1])) if pid is not None else "another process"
        mend = "wait for it, or end that process; a notebook holds the file until it closes it"
        return Finding("warehouse", "warn", f"{path} is held by {by}", mend)
    except WarehouseUnusable as error:
        return Finding("warehouse", "fail", str(error), _MEND_WAREHOUSE)
    except (duckdb.Error, OSError) as error:
        return Finding("warehouse", "fail", f"{path} cannot be read: {error}", _MEND_WAREHOUSE)
    return Finding("warehouse", "ok", f"{path} is free, with {tables} tables")


def _writable(check: str, folder: Path, variable: str) -> Finding:
    existing = _existing(folder)
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        return Finding(check, "fail", f"{folder} cannot be written", _mend(variable))
    there = "can be written" if existing == folder else "is not there yet: the first run makes it"
    return Finding(check, "ok", f"{folder} {there}")


def _existing(path: Path) -> Path:
    """Return the nearest folder above a path that exists, or the path itself."""
    return next(each for each in (path, *path.parents) if each.exists())


def _mend(what: str) -> str:
    return f"take the right to write there (chown, chmod), or set {what} to another folder"
