"""The hourly schedule as Dagster's own daemon runs it, at instants of our choice."""

import logging
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.settings import Settings

pytestmark = pytest.mark.slow


class Daemon:
    """The scheduler, one iteration at a time; runs stay in the queue."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.instance = workspace.instance
        self.seen = set()

    def iterate(self, instant):
        """Return the ticks, as HH:MM, for which this iteration has asked for a run."""
        now = datetime.fromisoformat(instant).replace(tzinfo=UTC)
        with freeze_time(now):
            list(launch_scheduled_runs(self.workspace, logging.getLogger("scheduler"), now, {}))
        new = [run for run in self.instance.get_runs() if run.run_id not in self.seen]
        self.seen |= {run.run_id for run in new}
        return [run.tags[SCHEDULED_EXECUTION_TIME_TAG][11:16] for run in new]

    def finish(self):
        """End the runs that wait."""
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
            self.instance.report_run_canceled(run)


@pytest.fixture
def daemon():
    folder = prepare_instance(Settings.from_environment())
    target = ModuleTarget("flash_pipeline.definitions", None, None, None)
    with (
        dg.DagsterInstance.from_config(str(folder)) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        yield Daemon(workspace)


def test_a_tick_is_one_run_and_a_pause_of_hours_is_one_run_too(daemon):
    assert daemon.iterate("2026-05-10T10:00:30") == []
    assert daemon.iterate("2026-05-10T10:02:05") == ["10:02"]
    assert daemon.iterate("2026-05-10T10:02:40") == [], "a tick is run once"
    assert daemon.iterate("2026-05-10T11:02:05") == [], "the last run has not ended"
    daemon.finish()
    assert daemon.iterate("2026-05-10T20:30:00") == ["20:02"], "nine ticks were missed"
