"""When a run starts, and which months it covers."""

import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.jobs import (
    JOB_NAME,
    WALK_FORWARD_JOB,
    active_run,
    exchange_now,
    hourly,
    keeps_time,
)
from flash_pipeline.defs.partitions import MONTHS
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.lock import claim_home

TWO = PipelineResource(recipe="demo", symbols=["BTCUSDT", "ETHUSDT"], months=3)


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def settings():
    return Settings.from_environment()


def store_months(settings, *months, symbols=("BTCUSDT", "ETHUSDT")):
    store = KlineStore(settings.klines, Interval.HOUR_1)
    for symbol in symbols:
        for key in months:
            month = Month.parse(key)
            row = dict.fromkeys(CANDLE_SCHEMA.names, 1.0) | {"start_time": month.time_range.start}
            candles = CANDLE_SCHEMA.empty_table().from_pylist([row], schema=CANDLE_SCHEMA)
            store.write_month(symbol, month, candles, synthetic=True)


def at(text):
    return parse_instant(text)


def evaluate(instance, tick):
    moment = datetime.fromisoformat(tick)
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=moment, resources={"pipeline": TWO}
    ) as context:
        return hourly(context)


def test_the_clock_is_the_exchange_s(settings):
    clock = Clock(at("2024-06-30T23:30:00Z"), speed=0)
    with embedded_exchange(clock=clock) as url:
        remote = Settings(home=settings.home, bybit_urls=(url,))
        assert exchange_now(remote, at("2026-01-01T00:00:00Z")) == clock.now_ms()


def test_an_exchange_that_is_away_leaves_the_scheduled_time(settings):
    remote = Settings(home=settings.home, bybit_urls=("http://127.0.0.1:9",))
    assert exchange_now(remote, 12345) == 12345


def test_a_tick_asks_for_one_run_over_the_range(instance):
    request = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/asset_partition_range_start"] == "2024-04"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-06"


def run_of(request):
    """Return the assets and checks that the run of a request has."""
    job = defs.resolve_job_def(JOB_NAME)
    selection = request.asset_selection
    subset = job if selection is None else job.get_subset(asset_selection=set(selection))
    graph = subset.asset_layer.asset_graph
    selected = subset.asset_layer.selected_asset_keys
    checks = {key.name for key in graph.asset_check_keys if key.asset_key in selected}
    return {key.to_user_string() for key in selected}, checks


REFERENCE = {"funding", "mark_klines", "tickers", "baselines"}


@pytest.mark.parametrize("hour", [1, 7, 9, 12, 23])
def test_most_hours_leave_the_reference_data_out(instance, hour):
    assets, checks = run_of(evaluate(instance, f"2024-06-20T{hour:02d}:02:00+00:00"))
    assert not assets & REFERENCE
    assert {"instruments", "klines", "features", "champion", "forecasts"} <= assets
    assert "klines_keep_the_contract" in checks
    assert "features_match_the_candles" in checks


@pytest.mark.parametrize("hour", [0, 8, 16])
def test_every_eight_hours_everything_is_refreshed(instance, hour):
    assets, checks = run_of(evaluate(instance, f"2024-06-20T{hour:02d}:02:00+00:00"))
    assert assets >= REFERENCE
    assert "funding_keeps_the_contract" in checks


def test_candles_up_to_now_tell_the_clock_without_a_request(settings):
    store = KlineStore(settings.klines, Interval.HOUR_1)
    june = Month.parse("2024-06")
    store_months(settings, "2024-06", symbols=("BTCUSDT",))
    (row,) = store.read_month("BTCUSDT", june).to_pylist()
    row["start_time"] = at("2024-06-20T08:00:00Z")
    candles = CANDLE_SCHEMA.empty_table().from_pylist([row], schema=CANDLE_SCHEMA)
    store.write_month("BTCUSDT", june, candles, synthetic=True)
    assert keeps_time(settings, TWO, at("2024-06-20T10:02:00Z"))
    assert not keeps_time(settings, TWO, at("2024-06-20T14:02:00Z"))
    assert not keeps_time(settings, TWO, at("2024-06-19T10:02:00Z"))


def test_without_candles_the_exchange_tells_the_clock(settings):
    assert not keeps_time(settings, TWO, at("2024-06-20T10:02:00Z"))


def test_the_schedule_is_on_by_default_at_minute_two():
    schedule = defs.resolve_schedule_def("hourly")
    assert schedule.cron_schedule == "2 * * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_runs_are_bounded_in_time():
    job = defs.resolve_job_def(JOB_NAME)
    assert int(job.tags["dagster/max_runtime"]) < 3600


def started(instance):
    return instance.create_run_for_job(
        defs.resolve_job_def(JOB_NAME), status=dg.DagsterRunStatus.STARTED
    )


def test_a_tick_is_skipped_with_a_reason_while_a_run_holds_the_home(instance, settings):
    settings.require_home()
    command = (
        "import sys, time, pathlib; from flash_pipeline.storage.lock import claim_home\n"
        "with claim_home(pathlib.Path(sys.argv[1])) as claim:\n"
        "    claim.name_run('run-of-another'); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command, str(settings.home)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline().strip() == b"held"
        skipped = evaluate(instance, "2024-06-20T10:02:00+00:00")
        other.kill()
    assert isinstance(skipped, dg.SkipReason)
    assert "run-of-another" in skipped.skip_message


def test_a_tick_is_skipped_while_a_run_is_about_to_start(instance):
    run = instance.create_run_for_job(
        defs.resolve_job_def(JOB_NAME), status=dg.DagsterRunStatus.STARTING
    )
    skipped = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert run.run_id in skipped.skip_message


def test_a_tick_goes_before_the_folds_of_a_backfill_that_wait(instance):
    fold = instance.create_run_for_job(
        defs.resolve_job_def(WALK_FORWARD_JOB),
        status=dg.DagsterRunStatus.STARTING,
        tags={"dagster/backfill": "b"},
    )
    request = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert isinstance(request, dg.RunRequest)
    assert int(request.tags["dagster/priority"]) > 0
    assert active_run(instance, Settings.from_environment().home) == fold.run_id


def test_a_tick_waits_for_a_walk_forward_that_is_no_backfill(instance):
    job = defs.resolve_job_def(WALK_FORWARD_JOB)
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    skipped = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert run.run_id in skipped.skip_message


@pytest.mark.parametrize("hour", [0, 1])
def test_the_hourly_run_has_no_walk_forward(instance, hour):
    assets, checks = run_of(evaluate(instance, f"2024-06-20T{hour:02d}:02:00+00:00"))
    assert not {name for name in assets if name.startswith("walk_forward")}
    assert "predictions_are_not_flat" not in checks


def test_a_run_that_was_made_and_never_launched_blocks_no_tick(instance):
    instance.create_run_for_job(
        defs.resolve_job_def(JOB_NAME), status=dg.DagsterRunStatus.NOT_STARTED
    )
    assert isinstance(evaluate(instance, "2024-06-20T10:02:00+00:00"), dg.RunRequest)


def test_a_killed_run_is_marked_failed_and_its_pools_are_free(instance, settings):
    settings.require_home()
    run = started(instance)
    with claim_home(settings.home) as claim:
        claim.name_run(run.run_id)
    storage = instance.event_log_storage
    storage.set_concurrency_slots("duckdb", 1)
    storage.claim_concurrency_slot("duckdb", run.run_id, "features")
    assert active_run(instance, settings.home) is None
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert not storage.get_concurrency_run_ids()


def test_the_current_month_is_a_partition():
    now = datetime.now(UTC)
    assert f"{now:%Y-%m}" in MONTHS.get_partition_keys()
