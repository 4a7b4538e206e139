"""What keeps the hourly runs going by themselves: bounds in time, tries, and a home kept lean."""

import logging
import time
from functools import partial
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from dagster._daemon.monitoring.run_monitoring import check_run_timeout

from flash_pipeline.bybit import BybitClient
from flash_pipeline.definitions import defs
from flash_pipeline.defs import retention
from flash_pipeline.defs.assets import ASSETS, market_data, model
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.defs.retention import RetentionConfig, prune
from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking import CHAMPION, MODEL_NAME, Registry
from flash_pipeline_tests.defs.conftest import small_chain

NETWORK = {
    *("instruments", "klines", "funding", "mark_klines", "tickers"),
    *("market_candles", "market_panel", "order_book_snapshots"),
}
YEAR_S = 365 * 86_400
SCHEDULES = ("hourly", "daily_retention")


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_scheduled_run_is_bounded_in_time_by_the_tag_that_dagster_reads(name):
    job = defs.resolve_job_def(defs.resolve_schedule_def(name).job_name)
    assert 0 < int(job.tags[MAX_RUNTIME_SECONDS_TAG]) < 3600


def test_the_schedules_never_start_at_the_same_minute():
    minutes = [defs.resolve_schedule_def(name).cron_schedule.split()[0] for name in SCHEDULES]
    assert len(set(minutes)) == len(minutes)


def test_a_run_beyond_its_bound_is_ended_as_failed_with_that_reason(instance):
    job = defs.resolve_job_def("retention")
    run = instance.create_run_for_job(job, tags={MAX_RUNTIME_SECONDS_TAG: "0.01"})
    instance.handle_new_event(_started(run))
    time.sleep(0.05)
    record = instance.get_run_record_by_id(run.run_id)
    check_run_timeout(instance, record, logging.getLogger("test"), 0.0)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    told = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("exceeding maximum runtime" in message for message in told)


def _started(run):
    from dagster._core.events import DagsterEvent, DagsterEventType
    from dagster._core.events.log import EventLogEntry

    event = DagsterEvent(DagsterEventType.RUN_START.value, run.job_name)
    return EventLogEntry(
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=run.run_id,
        timestamp=time.time(),
        job_name=run.job_name,
        dagster_event=event,
    )


def test_only_what_speaks_to_an_exchange_may_ask_for_another_try():
    speaking = {
        asset.key.to_user_string() for asset in ASSETS if "exchange" in asset.required_resource_keys
    }
    assert speaking == NETWORK
    assert not any(asset.op.retry_policy for asset in ASSETS), "a policy would retry any error"


def materialize(instance, asset, step_retries=2):
    resources = {
        "pipeline": PipelineResource(recipe="demo", symbols=["BTCUSDT"]),
        "exchange": ExchangeResource(step_retries=step_retries, retry_delay_s=0.01),
    }
    result = dg.materialize([asset], instance=instance, resources=resources, raise_on_error=False)
    kinds = [event.event_type_value for event in result.all_events]
    return result, kinds.count("STEP_UP_FOR_RETRY")


@pytest.fixture
def no_exchange(monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", "http://127.0.0.1:9")
    patient = partial(BybitClient, sleep=lambda _: None)
    monkeypatch.setattr("flash_pipeline.ingest.sources.BybitClient", patient)


def test_an_exchange_that_is_away_is_tried_again_so_many_times(instance, no_exchange):
    result, retries = materialize(instance, market_data.instruments)
    assert retries == 2
    assert "127.0.0.1:9 does not answer" in failure_reason(result)


def test_each_further_try_waits_longer_and_never_as_long_as_another_machine():
    policy = ExchangeResource().retry_policy()
    waits = [[policy.calculate_delay(tries) for _ in range(50)] for tries in (1, 2)]
    assert all(0 <= wait <= 60 for wait in waits[0])
    assert all(60 <= wait <= 120 for wait in waits[1])
    assert min(len(set(each)) for each in waits) > 40


def test_no_other_failure_is_tried_again(instance):
    Settings.from_environment().require_home()
    result, retries = materialize(instance, model.trained_model)
    assert (result.success, retries) == (False, 0)


@pytest.fixture(scope="module")
def aged(tmp_path_factory):
    """Yield a chain after three runs, pruned a year later with nothing kept but what is needed."""
    with small_chain(tmp_path_factory.mktemp("aged")) as chain:
        for epochs in (1, 2, 3):
            result = chain.run(epochs=epochs)
            assert result.success, failure_reason(result)
        config = RetentionConfig(
            model_versions=1,
            reports=1,
            champions=1,
            model_days=1,
            mlflow_run_days=1,
            clock_days=3650,
        )
        now = time.time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(retention.time, "time", lambda: now + YEAR_S)
            dry = prune(chain.settings, chain.instance, config.model_copy(update={"dry_run": True}))
            done = prune(chain.settings, chain.instance, config)
        yield chain, dry, done, chain.run(epochs=3)


def test_a_pruned_home_has_all_that_the_next_run_needs(aged):
    chain, _, pruning, result = aged
    assert pruning.failed == ()
    assert Registry(chain.settings).require(CHAMPION).bundle.symbols == ("BTCUSDT", "ETHUSDT")
    assert result.success, failure_reason(result)
    (made,) = result.asset_materializations_for_node("trained_model")
    assert made.metadata["story"].value == "trained before on exactly this data"


def test_a_dry_run_says_what_the_pruning_then_removes(aged):
    _, dry, pruning, _ = aged
    assert dry.items == pruning.items
    assert (dry.dry_run, pruning.dry_run) == (True, False)


def test_the_real_models_go_with_their_bytes(aged):
    chain, _, pruning, _ = aged
    sizes = {item.kind: item.size for item in pruning.items}
    left = Registry(chain.settings).client.search_model_versions(f"name = {MODEL_NAME!r}")
    assert (len(left), pruning.by_kind()["model version"][0]) == (2, 1)
    assert all(size > 10_000 for kind, size in sizes.items() if kind == "model version")
    assert Path(chain.settings.windows / "blocks.parquet").exists()


def test_what_a_training_needs_is_checked_in_the_graph(tmp_path, monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_FREE_DISK_GIB", "1000000")
    with small_chain(tmp_path) as chain:
        monkeypatch.setenv("FLASH_PIPELINE_FREE_DISK_GIB", "1000000")
        result = chain.run()
        assert "GiB of disk are free below" in failure_reason(result)
        assert Registry(chain.settings).at("challenger") is None
