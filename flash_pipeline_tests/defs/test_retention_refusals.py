"""What a pruning refuses to touch: a shared instance, and a home of which it cannot be sure."""

import time

import dagster as dg
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs import retention as module
from flash_pipeline.defs.retention import RetentionConfig
from flash_pipeline.errors import FileDamaged, MachineError
from flash_pipeline.market import Month
from flash_pipeline_tests.defs.aged_home import YEAR_S, old_report, settings

DAY_MS = 86_400_000


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@dg.asset
def newest():
    return dg.MaterializeResult()


def pruned_a_year_later(instance):
    """Return the id of a run of another job that is old, and what a dry run would remove."""
    old, _ = (dg.materialize([newest], instance=instance).run_id for _ in range(2))
    later = time.time() + YEAR_S
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "time", lambda: later)
        pruning = module.prune(settings(), instance, RetentionConfig(dry_run=True))
    return old, {item.name for item in pruning.items}


def test_runs_of_an_instance_that_others_may_share_stay(instance):
    old, would_go = pruned_a_year_later(instance)
    assert old not in would_go
    settings().dagster_home.mkdir()
    with dg.DagsterInstance.local_temp(str(settings().dagster_home)) as ours:
        old, would_go = pruned_a_year_later(ours)
    assert old in would_go


def month_of_candles(days_ago):
    month = Month.containing(int(time.time() * 1000) - days_ago * DAY_MS)
    path = settings().klines / "symbol=BTCUSDT" / f"month={month}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")


@pytest.mark.parametrize("days_ago", [-100, 100])
def test_a_clock_far_from_the_newest_candles_removes_nothing(instance, days_ago):
    folder, _ = old_report(), old_report("20200102T0000Z")
    month_of_candles(days_ago)
    with pytest.raises(MachineError, match=r"the newest candles are of 20.*nothing is removed"):
        module.prune(settings(), instance, RetentionConfig(reports=1))
    assert folder.exists()
    module.prune(settings(), instance, RetentionConfig(reports=1, clock_days=1000))
    assert not folder.exists()


def test_without_candles_the_newest_refresh_tells_of_the_clock(instance, monkeypatch):
    instance.create_run_for_job(defs.resolve_job_def("refresh"), status=dg.DagsterRunStatus.FAILURE)
    module.prune(settings(), instance, RetentionConfig())
    later = time.time() + YEAR_S
    monkeypatch.setattr(module.time, "time", lambda: later)
    with pytest.raises(MachineError, match="the newest run is of 20"):
        module.prune(settings(), instance, RetentionConfig())


@pytest.mark.parametrize("text", ["{", "[]"])
@pytest.mark.parametrize(
    "name", ["contest.json", "order_book_model/session.json", "portfolio/session.json"]
)
def test_a_file_of_what_is_needed_that_cannot_be_read_removes_nothing(instance, name, text):
    folder, _ = old_report(), old_report("20200102T0000Z")
    path = settings().home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(FileDamaged, match=name):
        module.prune(settings(), instance, RetentionConfig(reports=1))
    assert folder.exists()
