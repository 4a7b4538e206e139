"""A run that is killed at any step, and started again, ends where an undisturbed one does."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows import read_windows
from flash_pipeline_tests.cli.conftest import SMALL, CommandLine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BEFORE_TRAINING = ("klines", "features", "window_tensors")
AFTER_TRAINING = ("trained_model", "backtest_report", "champion")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, exchange_url):
    command = CommandLine(tmp_path_factory.mktemp("undisturbed") / "home", exchange_url)
    done = command("run", *SMALL)
    assert done.returncode == 0, done.stderr
    return command


@pytest.fixture(scope="module")
def killed(tmp_path_factory, exchange_url):
    """A home whose run was killed at each step and started again, until it was let finish."""
    command = CommandLine(tmp_path_factory.mktemp("killed") / "home", exchange_url)
    for asset in BEFORE_TRAINING:
        kill_after(command, asset)
    kill_in_training(command)
    for asset in AFTER_TRAINING:
        kill_after(command, asset)
    done = command("run", *SMALL)
    assert done.returncode == 0, done.stderr
    return command


def kill_after(command, asset):
    """Kill a run as soon as it says that an asset is made, and look at what it left."""
    with command.started("run", *SMALL) as process:
        told = list(until(process, f" {asset}: "))
        process.kill()
    assert f" {asset}: " in "".join(told[-1:]), "".join(told)
    look_at(command)


def kill_in_training(command):
    """Kill a run between the first epoch of its training and the last."""
    with command.started("run", *SMALL) as process:
        list(until(process, " window_tensors: "))
        deadline = time.monotonic() + 120
        while count(command, "FROM metrics WHERE key = 'train_loss'") == 0:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    assert count(command, "FROM metrics WHERE key = 'train_loss'") < 8
    assert count(command, "FROM runs WHERE status = 'RUNNING'") == 1
    assert count(command, "FROM model_versions WHERE name = 'flash-attention-trader'") == 0
    look_at(command)


def until(process, words) -> Iterator[str]:
    for line in process.stderr:
        yield line
        if words in line:
            return


def look_at(command):
    """Read, as another process would, whatever a killed run has left; nothing may be partial."""
    for path in command.settings.klines.glob("symbol=*/month=*.parquet"):
        assert pq.read_table(path, partitioning=None).num_rows
    if command.settings.warehouse.exists():
        with open_warehouse(command.settings.warehouse, read_only=True, wait_s=5) as connection:
            connection.execute("SHOW TABLES").fetchall()
    with contextlib.suppress(NotEnoughHistory):
        read_windows(command.settings.windows)


def count(command, query) -> int:
    if not command.settings.mlflow_database.exists():
        return 0
    uri = f"file:{command.settings.mlflow_database}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
        try:
            return connection.execute(f"SELECT count(*) {query}").fetchall()[0][0]
        except sqlite3.OperationalError:  # the tables are being made
            return 0


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(command, query) -> list[tuple]:
    with duckdb.connect(str(command.settings.warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_candle_files_are_equal_byte_for_byte(killed, undisturbed):
    stored = files(killed.settings.klines)
    assert len(stored) == 4
    assert stored == files(undisturbed.settings.klines)


def test_features_are_equal_row_for_row(killed, undisturbed):
    query = "FROM features ORDER BY symbol, start_time"
    assert len(rows(killed, query)) == 2 * (29 * 24 + 19 * 24 + 10)
    assert rows(killed, query) == rows(undisturbed, query)


def test_windows_are_equal(killed, undisturbed):
    assert files(killed.settings.windows) == files(undisturbed.settings.windows)
    assert (
        read_windows(killed.settings.windows).snapshot
        == read_windows(undisturbed.settings.windows).snapshot
    )


def test_forecasts_are_equal(killed, undisturbed):
    query = "FROM forecasts ORDER BY symbol"
    assert len(rows(killed, query)) == 2
    assert rows(killed, query) == rows(undisturbed, query)


def test_reports_are_equal(killed, undisturbed):
    stored = files(killed.settings.reports)
    assert len(stored) == 4
    assert stored == files(undisturbed.settings.reports)


def test_one_version_is_registered_and_it_is_the_champion(killed):
    ours = "name = 'flash-attention-trader'"
    assert count(killed, f"FROM model_versions WHERE {ours}") == 1
    for alias in ("champion", "challenger"):
        table = "FROM registered_model_aliases"
        assert count(killed, f"{table} WHERE {ours} AND alias = '{alias}' AND version = 1") == 1


def test_no_training_is_left_running(killed, undisturbed):
    assert count(killed, "FROM runs WHERE status = 'RUNNING'") == 0
    assert count(killed, "FROM runs WHERE status = 'KILLED'") == 1
    finished = "FROM runs WHERE status = 'FINISHED'"
    assert count(killed, finished) == count(undisturbed, finished)


def test_no_file_is_left_that_the_undisturbed_run_has_not(killed, undisturbed):
    logs = ("dagster/", "mlflow")

    def kept(command):
        return {name for name in files(command.home) if not name.startswith(logs)}

    assert kept(killed) == kept(undisturbed)


def test_every_killed_run_is_known_as_failed_and_the_last_as_done(killed):
    with dg.DagsterInstance.from_config(str(killed.settings.dagster_home)) as instance:
        statuses = [run.status for run in instance.get_runs()]
    ends = len(BEFORE_TRAINING) + 1 + len(AFTER_TRAINING)
    assert statuses == [dg.DagsterRunStatus.SUCCESS] + [dg.DagsterRunStatus.FAILURE] * ends
