"""When a run starts, and which months it covers."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.jobs import (
    JOB_NAME,
    PROCESS_TAG,
    active_run,
    exchange_now,
    hourly,
    months_to_refresh,
    process_tag,
)
from flash_pipeline.defs.partitions import MONTHS
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore

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


def test_an_empty_home_asks_for_the_whole_history_of_the_recipe(settings):
    months = months_to_refresh(settings, TWO, at("2024-06-20T10:02:00Z"))
    assert months == (Month(2024, 4), Month(2024, 6))


def test_within_a_month_only_that_month_is_refreshed(settings):
    store_months(settings, "2024-04", "2024-05", "2024-06")
    months = months_to_refresh(settings, TWO, at("2024-06-20T10:02:00Z"))
    assert months == (Month(2024, 6), Month(2024, 6))


@pytest.mark.parametrize("tick", ["2024-06-01T00:02:00Z", "2024-06-01T03:02:00Z"])
def test_just_after_a_month_ends_its_trailing_candles_are_read_again(settings, tick):
    store_months(settings, "2024-04", "2024-05", "2024-06")
    assert months_to_refresh(settings, TWO, at(tick)) == (Month(2024, 5), Month(2024, 6))


def test_after_a_pause_the_run_begins_where_the_candles_end(settings):
    store_months(settings, "2024-03", "2024-04")
    months = months_to_refresh(settings, TWO, at("2024-06-20T10:02:00Z"))
    assert months == (Month(2024, 4), Month(2024, 6))


def test_a_new_symbol_without_any_candles_does_not_stop_the_tick(settings):
    store_months(settings, "2024-04", "2024-05", "2024-06", symbols=("BTCUSDT",))
    months = months_to_refresh(settings, TWO, at("2024-06-20T10:02:00Z"))
    assert months[1] == Month(2024, 6)


def test_the_clock_is_the_exchange_s(settings):
    clock = Clock(at("2024-06-30T23:30:00Z"), speed=0)
    with embedded_exchange(clock=clock) as url:
        remote = Settings(home=settings.home, bybit_url=url)
        assert exchange_now(remote, at("2026-01-01T00:00:00Z")) == clock.now_ms()


def test_an_exchange_that_is_away_leaves_the_scheduled_time(settings):
    remote = Settings(home=settings.home, bybit_url="http://127.0.0.1:9")
    assert exchange_now(remote, 12345) == 12345


def test_a_tick_asks_for_one_run_over_the_range(instance):
    request = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/asset_partition_range_start"] == "2024-04"
    assert request.tags["dagster/asset_partition_range_end"] == "2024-06"


def test_the_schedule_is_on_by_default_at_minute_two():
    schedule = defs.resolve_schedule_def("hourly")
    assert schedule.cron_schedule == "2 * * * *"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def test_runs_are_bounded_in_time():
    job = defs.resolve_job_def(JOB_NAME)
    assert int(job.tags["dagster/max_runtime"]) < 3600


def started(instance, tags):
    return instance.create_run_for_job(
        defs.resolve_job_def(JOB_NAME), status=dg.DagsterRunStatus.STARTED, tags=tags
    )


def test_a_tick_is_skipped_with_a_reason_while_a_run_is_active(instance):
    run = started(instance, process_tag())
    skipped = evaluate(instance, "2024-06-20T10:02:00+00:00")
    assert isinstance(skipped, dg.SkipReason)
    assert run.run_id in skipped.skip_message


def test_a_run_whose_process_is_gone_is_failed_and_blocks_nothing(instance):
    host = next(iter(process_tag().values())).rpartition(":")[0]
    run = started(instance, {PROCESS_TAG: f"{host}:{2**22 + 1}"})
    assert active_run(instance) is None
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_the_current_month_is_a_partition():
    now = datetime.now(UTC)
    assert f"{now:%Y-%m}" in MONTHS.get_partition_keys()
