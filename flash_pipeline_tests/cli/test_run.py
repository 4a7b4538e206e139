"""`flash_pipeline run`, as a person starts it."""

import re
import sqlite3
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.defs.jobs import JOB_NAME
from flash_pipeline.storage.lock import claim_home
from flash_pipeline_tests.cli.conftest import LAST_CLOSE, SMALL

ASSETS = (
    "klines",
    "features",
    "window_tensors",
    "trained_model",
    "backtest_report",
    "champion",
    "forecasts",
)


def months(command) -> list[str]:
    folder = command.home / "klines" / "symbol=BTCUSDT"
    return sorted(path.stem.removeprefix("month=") for path in folder.iterdir())


def forecasts(command) -> list[tuple]:
    with duckdb.connect(str(command.settings.warehouse), read_only=True) as connection:
        return connection.execute(
            "SELECT symbol, made_at, prediction FROM forecasts ORDER BY symbol"
        ).fetchall()


@pytest.fixture
def run_of():
    """Record a run of a home that has started and not ended."""
    with ExitStack() as stack:

        def run_of(command):
            config = prepare_instance(command.settings, {})
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(config)))
            return instance, instance.create_run_for_job(
                defs.resolve_job_def(JOB_NAME), status=dg.DagsterRunStatus.STARTED
            )

        yield run_of


@pytest.mark.slow
def test_prints_the_forecasts_of_the_exchanges_last_close(finished):
    command, done = finished
    title = "Forecasts of 2024-03-20T10:00Z, 24 bars ahead, model version 1  (SYNTHETIC MARKET)"
    assert done.stdout.startswith(f"\n{title}\n")
    stored = forecasts(command)
    assert [row[:2] for row in stored] == [("BTCUSDT", LAST_CLOSE), ("ETHUSDT", LAST_CLOSE)]
    for symbol, _, prediction in stored:
        assert re.search(rf"^  {symbol} +{re.escape(f'{prediction:+.3%}')} ", done.stdout, re.M)


@pytest.mark.slow
def test_prints_the_path_of_a_report_that_exists(finished):
    command, done = finished
    report = Path(re.search(r"^Report +(\S+)$", done.stdout, re.M)[1])
    assert report == command.home / "reports" / "20240320T1000Z" / "report.html"
    assert report.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_prints_the_tracking_uri_at_which_the_champion_is(finished):
    command, done = finished
    uri = re.search(r"MLFLOW_TRACKING_URI=(\S+)", done.stdout)[1]
    assert uri == f"sqlite:///{command.home / 'mlflow.db'}"
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        aliases = connection.execute(
            "SELECT alias, version FROM registered_model_aliases "
            "WHERE name = 'flash-attention-trader'"
        )
        assert dict(aliases.fetchall()) == {"champion": 1, "challenger": 1}


@pytest.mark.slow
def test_tells_of_each_step_as_it_goes_and_of_no_trouble(finished):
    _, done = finished
    told = re.findall(rf"^\d\d:\d\d:\d\d ({'|'.join(ASSETS)}): ", done.stderr, re.M)
    assert told == list(ASSETS)
    for trouble in ("Traceback", "Warning", "WARNING", "ERROR", "leak"):
        assert trouble not in done.stdout + done.stderr


@pytest.mark.slow
def test_stores_the_months_that_were_asked_for(finished):
    command, _ = finished
    assert months(command) == ["2024-02", "2024-03"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "first", "last", "count"),
    [
        ((), "2023-04", "2024-03", 12),
        (("--to", "2023-06"), "2022-07", "2023-06", 12),
        (("--from", "2024-01"), "2024-01", "2024-03", 3),
    ],
)
def test_months_default_to_the_last_twelve_of_the_exchanges_clock(
    command, options, first, last, count
):
    # An MLflow that holds no registry ends the run where it would begin to train.
    done = command(
        *("run", "--recipe", "demo", "--symbols", "BTCUSDT", *options),
        MLFLOW_TRACKING_URI="file:///nowhere",
    )
    stored = months(command)
    assert (stored[0], stored[-1], len(stored)) == (first, last, count)
    assert done.returncode == 1
    reason = r"error: (baselines|trained_model) failed: MLFLOW_TRACKING_URI='file:///nowhere' "
    assert re.match(reason, done.stderr.splitlines()[-1])


def test_a_failure_on_the_way_is_one_line_that_names_its_cause(command):
    done = command("run", *SMALL, "--symbols", "NOPEUSDT")
    assert (done.returncode, done.stdout) == (1, "")
    reason = "error: instruments failed: the exchange does not know 'NOPEUSDT': not listed"
    assert done.stderr.splitlines()[-1].startswith(reason)
    assert len(re.findall(r"^error: ", done.stderr, re.M)) == 1
    for trouble in ("Traceback", "Stack Trace", '  File "'):
        assert trouble not in done.stderr


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (("--from", "2024-13"), {}, "'2024-13'"),
        (("--to", "yesterday"), {}, "'yesterday'"),
        (("--from", "2024-03", "--to", "2024-02"), {}, "2024-03 to 2024-02"),
        (("--from", "2020-02", "--to", "2020-04"), {}, "2020-02"),
        (("--from", "2024-03", "--to", "2024-04"), {}, "2024-04"),
        (("--recipe", "best"), {}, "'best'"),
        (("--symbols", "BTCUSDT,eth usdt"), {}, "'eth usdt'"),
        (("--symbols", ""), {}, "''"),
        ((), {"FLASH_PIPELINE_RECIPE": "huge"}, "FLASH_PIPELINE_RECIPE='huge'"),
        ((), {"FLASH_PIPELINE_BYBIT_URL": "ftp://x"}, "FLASH_PIPELINE_BYBIT_URL='ftp://x'"),
        ((), {"FLASH_PIPELINE_HOME": "/dev/null/home"}, "FLASH_PIPELINE_HOME='/dev/null/home'"),
        ((), {"DAGSTER_HOME": "/dev/null/dagster"}, "DAGSTER_HOME='/dev/null/dagster'"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(command, options, variables, words):
    done = command("run", *options, **variables)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    assert words in done.stderr
    assert not command.settings.klines.exists()


@pytest.mark.parametrize("arguments", [(), ("run",), ("dev",)])
def test_help_tells_what_there_is(command, arguments):
    done = command(*arguments, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


def test_version_is_that_of_the_package(command):
    done = command("--version")
    assert done.returncode == 0
    assert done.stdout.endswith(f"version {version('flash-pipeline')}\n")


def test_a_second_run_is_refused_while_one_is_active(command, run_of):
    _, active = run_of(command)
    with claim_home(command.home) as claim:
        claim.name_run(active.run_id)
        done = command("run", *SMALL)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    assert f"run {active.run_id} is active on {command.home}" in done.stderr
    assert not command.settings.klines.exists()


@pytest.mark.slow
def test_a_run_whose_process_is_gone_blocks_nothing(finished, used, run_of):
    (_, first), command = finished, used
    instance, dead = run_of(command)
    with claim_home(command.home) as claim:
        claim.name_run(dead.run_id)
    before = forecasts(command)
    done = command("run", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stdout == first.stdout.replace(str(finished[0].home), str(command.home))
    assert forecasts(command) == before
    assert instance.get_run_by_id(dead.run_id).status == dg.DagsterRunStatus.FAILURE
