"""The tick's bookkeeping: what a run's events say, and the budgets."""

import argparse
import json
import logging

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.events.log import EventLogEntry

from benchmarks.tick import BUDGETS_S, described, phases, save, table, trainings

ROWS = [
    {"queue": 3.0, "process and imports": 6.0, "klines": 1.0, "trained_model": 5.0, "total": 20.0},
    {"queue": 1.0, "process and imports": 8.0, "klines": 2.0, "trained_model": 7.0, "total": 24.0},
    {"queue": 2.0, "process and imports": 7.0, "klines": 9.0, "trained_model": 6.0, "total": 21.0},
]


def options(**changes):
    values = {"part": "tick", "recipe": "demo", "windows": None}
    return argparse.Namespace(**{**values, **changes})


def test_the_result_is_the_medians_and_whether_the_budget_is_met(tmp_path):
    result = described(options(), ROWS, 99.0)
    assert result["medians"]["total"] == 21.0
    assert result["medians"]["klines"] == 2.0
    assert result["met"]
    assert result["budgets_s"] == {"total": BUDGETS_S["demo"]} == {"total": 60}
    assert "| process and imports | 7.00 |" in table(result)
    assert json.loads(save(result, tmp_path).read_text())["runs"] == 3


def test_a_tick_beyond_its_budget_is_told():
    slow = [{"total": 61.0}]
    result = described(options(), slow, 61.0)
    assert not result["met"]
    assert "budget total 60 s: NOT met" in table(result)


def test_a_full_tick_has_a_budget_for_its_training_too():
    result = described(options(recipe="full"), ROWS, 99.0)
    assert result["met"]
    assert result["budgets_s"] == {"total": 90, "trained_model": 30}
    slow = described(options(recipe="full"), [{**ROWS[0], "trained_model": 31.0}], 99.0)
    assert not slow["met"]
    assert "budget total 90 s, trained_model 30 s: NOT met" in table(slow)


@pytest.mark.parametrize(("seconds", "met"), [(29.0, True), (31.0, False)])
def test_a_full_training_has_a_budget_of_its_own(seconds, met):
    rows = [{"training": seconds, "total": 40.0}]
    assert described(options(part="training", recipe="full"), rows, 40.0)["met"] is met


def test_the_phases_of_a_run_add_up(tmp_path):
    @dg.op
    def first():
        pass

    @dg.job
    def small():
        first()

    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        result = small.execute_in_process(instance=instance)
        run = instance.get_run_by_id(result.run_id)
        events = [entry for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        (begun,) = [e for e in events if e.dagster_event_type.value == "PIPELINE_START"]
        for seconds, kind in ((9.0, "PIPELINE_ENQUEUED"), (6.0, "PIPELINE_STARTING")):
            event = event_at(run, kind, begun.timestamp - seconds)
            instance.event_log_storage.store_event(event)
    found = phases(tmp_path, run.run_id)
    assert found["queue"] == pytest.approx(3.0)
    assert found["process and imports"] == pytest.approx(6.0)
    parts = [seconds for name, seconds in found.items() if name not in {"queue", "total"}]
    assert sum(parts) == pytest.approx(found["total"])


def event_at(run, kind, timestamp):
    return EventLogEntry(
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=run.run_id,
        timestamp=timestamp,
        job_name=run.job_name,
        dagster_event=DagsterEvent(kind, run.job_name),
    )


@pytest.mark.slow
def test_a_training_is_timed_in_a_fresh_process(long_windows):
    (row,) = trainings(long_windows, "demo", 1)
    assert row["training"] > 0
    assert row["total"] > row["imports"] > 0
