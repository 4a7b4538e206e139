"""The graph materializes from the Dagster UI, by the very calls that its pages send."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import requests

from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline_tests.cli.conftest import (
    CommandLine,
    free_port,
    kill_processes_of,
    let_the_tick_pass,
)
from flash_pipeline_tests.defs.conftest import NOW, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ASSETS = (
    "instruments",
    "klines",
    "features",
    "funding",
    "mark_klines",
    "tickers",
    "window_tensors",
    "trained_model",
    "baselines",
    "backtest_report",
    "champion",
    "forecasts",
    "live_record",
)
REPOSITORY = {
    "repositoryLocationName": "flash_pipeline.definitions",
    "repositoryName": "__repository__",
}
BACKFILLED = [f"{year}-{month:02}" for year in (2022, 2023) for month in range(1, 13)]
RUN_CONFIG = {"resources": {"pipeline": {"config": SMALL}}}

# The mutations of the UI's pages, each cut down to what is looked at here.
LAUNCH_RUN = """
mutation LaunchPipelineExecution($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename
    ... on LaunchRunSuccess { run { id } }
    ... on InvalidSubsetError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
LAUNCH_BACKFILL = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PartitionKeysNotFoundError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
VALIDATE = """
query PipelineExecutionConfigValidation($pipeline: PipelineSelector!, $config: RunConfigData) {
  isPipelineConfigValid(pipeline: $pipeline, runConfigData: $config, mode: "default") {
    __typename
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
STOP_SCHEDULE = """
mutation StopSchedule($id: String!) {
  stopRunningSchedule(id: $id) {
    __typename
    ... on ScheduleStateResult { scheduleState { status } }
    ... on PythonError { message }
  }
}
"""
SCHEDULES = """
query Schedules($repositorySelector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $repositorySelector) {
    ... on Schedules { results { name cronSchedule scheduleState { id status } } }
    ... on PythonError { message }
  }
}
"""
RUN = """
query Run($runId: ID!) {
  runOrError(runId: $runId) { ... on Run { status tags { key value } } }
}
"""
BACKFILL = """
query Backfill($backfillId: String!) {
  partitionBackfillOrError(backfillId: $backfillId) {
    ... on PartitionBackfill {
      status numPartitions error { message } runs(limit: 10) { id status }
    }
  }
}
"""
ASSET_NODES = """
query Assets($assetKeys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assetKeys) {
    assetKey { path }
    assetMaterializations(limit: 1) {
      runId
      metadataEntries {
        __typename
        label
        ... on IntMetadataEntry { intValue }
        ... on TextMetadataEntry { text }
        ... on MarkdownMetadataEntry { mdStr }
      }
    }
    assetChecksOrError {
      ... on AssetChecks {
        checks { name executionForLatestMaterialization { status } }
      }
    }
    partitionStats { numMaterialized numFailed }
    assetPartitionStatuses {
      ... on TimePartitionStatuses { ranges { startKey endKey status } }
    }
  }
}
"""


class Webserver:
    """The UI's GraphQL endpoint."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"
        self.process = process

    def ask(self, query: str, **variables):
        """Return the only field of the answer."""
        answer = requests.post(
            self.url, json={"query": query, "variables": variables}, timeout=60
        ).json()
        assert "errors" not in answer, answer["errors"]
        (value,) = answer["data"].values()
        return value

    def poll(self, query: str, final: set[str], **variables):
        """Ask until the status is one of the final ones."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            value = self.ask(query, **variables)
            if value["status"] in final:
                return value
            time.sleep(0.5)
        return pytest.fail(f"still {value}")

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            with suppress(requests.ConnectionError):
                self.ask("query { version }")
                return
            time.sleep(0.2)
        pytest.fail("the UI does not answer")

    def schedule(self):
        schedules = self.ask(SCHEDULES, repositorySelector=REPOSITORY)["results"]
        return next(each for each in schedules if each["name"] == "hourly")

    def assets(self, *names: str):
        keys = [{"path": [name]} for name in names]
        nodes = self.ask(ASSET_NODES, assetKeys=keys)
        return {node["assetKey"]["path"][0]: node for node in nodes}


@pytest.fixture(scope="module")
def exchange_url():
    with embedded_exchange(clock=Clock(parse_instant(NOW), speed=0)) as url:
        yield url


@pytest.fixture(scope="module")
def webserver(tmp_path_factory, exchange_url):
    """Plain `dagster dev`, without the guard of `flash_pipeline dev`, on an empty home."""
    home = tmp_path_factory.mktemp("webserver") / "home"
    dagster_home = prepare_instance(Settings(home=home), {})
    environ = CommandLine(home, exchange_url).environ(DAGSTER_HOME=str(dagster_home))
    port = free_port()
    let_the_tick_pass()
    with (
        home.with_name("log").open("w") as log,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster", "dev", "-m", "flash_pipeline.definitions"),
                *("-h", "127.0.0.1", "-p", str(port)),
            ],
            env=environ,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            server = Webserver(port, process)
            server.wait()
            yield server
        finally:
            end(process)
            kill_processes_of(home)


def end(process):
    os.kill(process.pid, signal.SIGINT)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def schedule_at_start(webserver):
    """The hourly schedule as the UI lists it at first; then it is off, to start nothing here."""
    found = webserver.schedule()
    stopped = webserver.ask(STOP_SCHEDULE, id=found["scheduleState"]["id"])
    assert stopped["__typename"] == "ScheduleStateResult", stopped
    return found


@pytest.fixture(scope="module")
def launched(webserver, schedule_at_start):
    """The run of the job over two months that the launchpad starts, after its end."""
    tags = {
        "dagster/asset_partition_range_start": "2024-02",
        "dagster/asset_partition_range_end": "2024-03",
    }
    answer = webserver.ask(
        LAUNCH_RUN,
        executionParams={
            "mode": "default",
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
            "runConfigData": json.dumps(RUN_CONFIG),
            "selector": {
                **REPOSITORY,
                "pipelineName": "refresh",
                "assetSelection": [{"path": [name]} for name in ASSETS],
                "assetCheckSelection": None,
            },
        },
    )
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["id"]
    return run_id, webserver.poll(RUN, {"SUCCESS", "FAILURE", "CANCELED"}, runId=run_id)


@pytest.fixture(scope="module")
def backfilled(webserver, launched):
    """The backfill of two earlier years of candles and features, after its end."""
    answer = webserver.ask(
        LAUNCH_BACKFILL,
        backfillParams={
            "tags": [],
            "assetSelection": [{"path": ["klines"]}, {"path": ["features"]}],
            "partitionNames": BACKFILLED,
            "fromFailure": False,
            "runConfigData": json.dumps(RUN_CONFIG),
        },
    )
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    final = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
    return webserver.poll(BACKFILL, final, backfillId=answer["backfillId"])


def test_the_hourly_schedule_is_on_by_default(schedule_at_start):
    assert schedule_at_start["name"] == "hourly"
    assert schedule_at_start["cronSchedule"] == "2 * * * *"
    assert schedule_at_start["scheduleState"]["status"] == "RUNNING"


def test_the_schedule_can_be_stopped(webserver, schedule_at_start):
    assert webserver.schedule()["scheduleState"]["status"] == "STOPPED"


def test_the_job_runs_to_its_end(launched):
    _, run = launched
    assert run["status"] == "SUCCESS"


@pytest.mark.parametrize("asset", ASSETS)
def test_the_materialization_of_each_asset_is_shown_with_its_metadata(webserver, launched, asset):
    run_id, _ = launched
    (shown,) = webserver.assets(asset)[asset]["assetMaterializations"]
    assert shown["runId"] == run_id
    assert shown["metadataEntries"]


def test_metadata_tell_rows_verdict_and_pictures(webserver, launched):
    def shown(asset, label):
        (materialization,) = webserver.assets(asset)[asset]["assetMaterializations"]
        entries = {entry["label"]: entry for entry in materialization["metadataEntries"]}
        return entries[label]

    assert shown("features", "dagster/row_count")["intValue"] == 2 * (29 * 24 + 19 * 24 + 10)
    assert shown("backtest_report", "verdict")["mdStr"].endswith(".")
    assert shown("trained_model", "loss")["mdStr"].startswith("![loss](data:image/png;base64,")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, None),
        ({"recipe": "demo", "interval": "60", "head": "quantile"}, None),
        ({"recipe": "best"}, "not in enum type RecipeChoice got best"),
        ({"attention": "magic"}, "not in enum type AttentionChoice got magic"),
        ({"lookback": "long"}, 'Value "long"'),
    ],
)
def test_the_launchpad_refuses_as_one_types(webserver, given, words):
    answer = webserver.ask(
        VALIDATE,
        pipeline={**REPOSITORY, "pipelineName": "refresh"},
        config={"resources": {"pipeline": {"config": given}}},
    )
    assert (answer["__typename"] == "PipelineConfigValidationValid") == (words is None), answer
    if words is not None:
        (error,) = answer["errors"]
        assert words in error["message"]


def test_the_blocking_checks_ran_and_passed(webserver, launched):
    names = ("klines", "features", "funding", "mark_klines", "window_tensors", "forecasts")
    for name, node in webserver.assets(*names).items():
        checks = node["assetChecksOrError"]["checks"]
        ran = {check["executionForLatestMaterialization"]["status"] for check in checks}
        assert ran == {"SUCCEEDED"}, name


def test_a_backfill_of_two_years_is_one_run(backfilled):
    assert backfilled["status"] in {"COMPLETED", "COMPLETED_SUCCESS"}, backfilled
    assert [run["status"] for run in backfilled["runs"]] == ["SUCCESS"]


def test_the_months_of_the_run_and_the_backfill_are_shown_as_materialized(webserver, backfilled):
    for name, node in webserver.assets("klines", "features").items():
        assert node["partitionStats"] == {"numMaterialized": 26, "numFailed": 0}, name
        ranges = node["assetPartitionStatuses"]["ranges"]
        shown = [(each["startKey"], each["endKey"], each["status"]) for each in ranges]
        assert shown == [
            ("2022-01", "2023-12", "MATERIALIZED"),
            ("2024-02", "2024-03", "MATERIALIZED"),
        ]
