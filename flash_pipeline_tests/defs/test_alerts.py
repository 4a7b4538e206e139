"""Alerts reach a real HTTP server, the log always, and nobody learns the webhook's address."""

import json
import logging
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import duckdb
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs import alerts
from flash_pipeline.defs.alerts import REPEAT_MS, Alarm, run_failure_alert, stale_data_alert
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import InvalidSymbol
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore

SECRET = "T000-secret"
HOUR_MS = 3_600_000
ONE = PipelineResource(recipe="demo", symbols=["BTCUSDT"])


class Hook:
    """A webhook that answers with a status and keeps what it got."""

    def __init__(self):
        self.status, self.messages = 200, []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.messages.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def texts(self):
        return [message["text"] for message in self.messages]


@pytest.fixture
def hook(monkeypatch):
    hook = Hook()
    monkeypatch.setenv("FLASH_PIPELINE_WEBHOOK_URL", hook.url)
    monkeypatch.setattr("flash_pipeline.transport.webhook._PAUSE_S", 0.0)
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@dg.job
def broken():
    @dg.op
    def step():
        message = "symbol 'btc' is none; postgresql://me:hidden@host/db"
        raise InvalidSymbol(message)

    step()


def evaluate_failures(instance, cursor=None):
    repository = dg.Definitions(jobs=[broken], sensors=[run_failure_alert]).get_repository_def()
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, repository_def=repository, sensor_name="run_failure_alert"
    )
    return run_failure_alert.evaluate_tick(context).cursor


@pytest.fixture
def cursor(instance):
    """Return the cursor after a run failed that is to be reported."""
    broken.execute_in_process(instance=instance, raise_on_error=False)
    first = evaluate_failures(instance)
    broken.execute_in_process(instance=instance, raise_on_error=False)
    return first


def test_a_failed_run_is_reported_once_with_its_reason(instance, cursor, hook, capfd):
    after = evaluate_failures(instance, cursor)
    (text,) = hook.texts
    run = instance.get_runs(limit=1)[0]
    assert text.startswith(f"flash_pipeline: run {run.run_id} of job broken failed. step: symbol")
    assert "hidden" not in text
    assert text in capfd.readouterr().err
    evaluate_failures(instance, after)
    assert len(hook.messages) == 1


@pytest.mark.parametrize("status", [404, 500])
def test_a_webhook_that_fails_does_not_fail_the_sensor(instance, cursor, hook, capfd, status):
    hook.status = status
    assert evaluate_failures(instance, cursor) != cursor
    told = capfd.readouterr().err
    assert f"127.0.0.1 did not take a message: HTTP {status}" in told
    assert SECRET not in told


def test_without_a_webhook_the_log_has_it(instance, cursor, capfd):
    evaluate_failures(instance, cursor)
    assert "of job broken failed. step: symbol 'btc' is none" in capfd.readouterr().err


def store_candle(age_h):
    """Store one candle that closed so many hours ago."""
    start = (int(time.time() * 1000) // HOUR_MS - age_h - 1) * HOUR_MS
    month = Month.containing(start)
    row = dict.fromkeys(CANDLE_SCHEMA.names, 1.0) | {"start_time": start}
    candles = CANDLE_SCHEMA.empty_table().from_pylist([row], schema=CANDLE_SCHEMA)
    store = KlineStore(Settings.from_environment().klines, Interval.HOUR_1)
    store.write_month("BTCUSDT", month, candles, synthetic=True)


def store_forecast(age_h):
    settings = Settings.from_environment()
    settings.require_home()
    made_at = (int(time.time() * 1000) // HOUR_MS - age_h) * HOUR_MS
    with closing(duckdb.connect(str(settings.warehouse))) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS forecasts (made_at BIGINT)")
        connection.execute("INSERT INTO forecasts VALUES (?)", [made_at])


def evaluate_age(instance, cursor=None):
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"pipeline": ONE}
    ) as context:
        skipped = stale_data_alert(context)
        return skipped.skip_message, context.cursor


def test_a_new_home_is_no_alarm(instance, hook):
    assert evaluate_age(instance) == ("nothing is stored yet", None)
    assert hook.messages == []


def test_data_in_time_is_no_alarm(instance, hook):
    store_candle(1)
    store_forecast(2)
    message, cursor = evaluate_age(instance)
    assert message.startswith("in time: newest candle 20")
    assert (cursor, hook.messages) == (None, [])


@pytest.mark.parametrize(("candle", "forecast"), [(0, 4), (4, 0), (4, 4)])
def test_an_old_candle_or_forecast_is_reported(instance, hook, candle, forecast):
    store_candle(candle)
    store_forecast(forecast)
    evaluate_age(instance)
    (text,) = hook.texts
    assert text.startswith("flash_pipeline: data is late: the newest ")
    assert ("candle is of" in text, "forecast is of" in text) == (candle > 3, forecast > 3)
    assert "4 bars ago" in text


def test_how_many_bars_are_late_is_a_setting(instance, hook, monkeypatch):
    store_candle(4)
    monkeypatch.setenv("FLASH_PIPELINE_STALE_BARS", "6")
    evaluate_age(instance)
    assert hook.messages == []


def test_what_stays_late_is_reported_sparingly_and_again_after_a_day(instance, hook, monkeypatch):
    store_candle(9)
    _, cursor = evaluate_age(instance)
    for _ in range(3):
        _, cursor = evaluate_age(instance, cursor)
    assert len(hook.messages) == 1
    alarm = Alarm.from_cursor(cursor)
    tomorrow = Alarm(alarm.since - REPEAT_MS, alarm.next_at - REPEAT_MS, told=True)
    _, later = evaluate_age(instance, tomorrow.to_cursor())
    assert len(hook.messages) == 2
    assert Alarm.from_cursor(later).since == tomorrow.since


def test_all_is_well_again_is_said_once(instance, hook):
    store_candle(9)
    _, cursor = evaluate_age(instance)
    store_candle(0)
    _, cursor = evaluate_age(instance, cursor)
    assert "data is in time again; it was late from 20" in hook.texts[-1]
    assert cursor == ""
    evaluate_age(instance, cursor)
    assert len(hook.messages) == 2


def test_what_the_webhook_did_not_take_is_posted_later(instance, hook, monkeypatch):
    hook.status = 404
    store_candle(9)
    _, cursor = evaluate_age(instance)
    assert len(hook.messages) == 1
    evaluate_age(instance, cursor)
    assert len(hook.messages) == 1, "not at once"
    monkeypatch.setattr(alerts, "RETRY_MS", 0)
    _, cursor = evaluate_age(instance, Alarm(0, 0).to_cursor())
    hook.status = 200
    _, cursor = evaluate_age(instance, cursor)
    assert len(hook.messages) == 3
    assert Alarm.from_cursor(cursor).told


def test_a_message_of_the_end_that_was_not_taken_is_posted_later(instance, hook, monkeypatch):
    monkeypatch.setattr(alerts, "RETRY_MS", 0)
    hook.status = 500
    store_candle(0)
    _, cursor = evaluate_age(instance, Alarm(0, 0, told=True).to_cursor())
    assert Alarm.from_cursor(cursor).over
    hook.status = 200
    _, cursor = evaluate_age(instance, cursor)
    assert cursor == ""


def test_a_cursor_that_cannot_be_read_begins_anew(instance, hook):
    store_candle(9)
    _, cursor = evaluate_age(instance, '{"since": 1, "other": 2}')
    assert len(hook.messages) == 1
    assert Alarm.from_cursor(cursor).since > 1


@pytest.fixture
def held(monkeypatch):
    """Let another process hold the forecasts."""
    monkeypatch.setattr(alerts, "_PATIENCE_S", 0.0)
    refusal = alerts.WarehouseLocked("warehouse.duckdb is held by another process")
    monkeypatch.setattr(alerts, "open_warehouse", lambda *_, **__: (_ for _ in ()).throw(refusal))


def test_late_candles_are_reported_though_the_forecasts_are_held(instance, hook, held):
    store_candle(9)
    store_forecast(9)
    evaluate_age(instance)
    (text,) = hook.texts
    assert "the newest candle is of" in text


def test_forecasts_held_for_longer_than_the_bars_are_late(instance, hook, held, monkeypatch):
    store_candle(0)
    store_forecast(0)
    message, cursor = evaluate_age(instance)
    assert "not looked at: the forecasts are held since 20" in message
    evaluate_age(instance, cursor)
    assert hook.messages == []
    hours_ago = int(time.time() * 1000) - 4 * HOUR_MS
    _, cursor = evaluate_age(instance, json.dumps({"held_since": hours_ago}))
    assert "the forecasts are held since 20" in hook.texts[-1]
    assert Alarm.from_cursor(cursor).late == ("forecast",)


def test_forecasts_that_cannot_be_read_are_said(instance, hook):
    store_candle(0)
    settings = Settings.from_environment()
    settings.require_home()
    settings.warehouse.write_bytes(b"no database" * 1000)
    evaluate_age(instance)
    assert "the forecasts cannot be read: " in hook.texts[-1]


def test_candles_that_cannot_be_read_are_said(instance, hook):
    store_candle(0)
    (path,) = Settings.from_environment().klines.rglob("*.parquet")
    path.write_bytes(b"cut off")
    evaluate_age(instance)
    assert "the candles cannot be read: " in hook.texts[-1]


def test_what_vanished_does_not_end_its_alarm(instance, hook):
    store_candle(0)
    store_forecast(9)
    _, cursor = evaluate_age(instance)
    Settings.from_environment().warehouse.unlink()
    message, cursor = evaluate_age(instance, cursor)
    assert message.endswith("no forecast is there any more")
    (path,) = Settings.from_environment().klines.rglob("*.parquet")
    path.unlink()
    message, cursor = evaluate_age(instance, cursor)
    assert (message[:10], len(hook.messages)) == ("late since", 1)
    store_candle(0)
    store_forecast(0)
    evaluate_age(instance, cursor)
    assert "data is in time again" in hook.texts[-1]


def test_an_alarm_of_a_clock_that_was_ahead_is_reported_at_once(instance, hook):
    store_candle(9)
    future = int(time.time() * 1000) + 2 * REPEAT_MS
    evaluate_age(instance, Alarm(0, future, told=True).to_cursor())
    assert len(hook.messages) == 1


def test_a_training_that_the_gpu_kept_away_is_reported_until_one_is_made(instance, hook):
    def trained(trouble):
        @dg.asset
        def trained_model():
            story = f"left out: {trouble}"
            return dg.MaterializeResult(metadata={"gpu_trouble": trouble, "story": story})

        dg.materialize([trained_model], instance=instance)

    store_candle(0)
    trained("PyTorch finds no CUDA device")
    _, cursor = evaluate_age(instance)
    assert "the newest training: left out: PyTorch finds no CUDA device" in hook.texts[-1]
    trained("none")
    evaluate_age(instance, cursor)
    assert "in time again" in hook.texts[-1]


def test_a_home_that_is_not_pruned_for_two_days_is_reported(instance, hook, monkeypatch):
    now = time.time()
    job = defs.resolve_job_def("retention")
    refresh = defs.resolve_job_def("refresh")
    instance.create_run_for_job(refresh, status=dg.DagsterRunStatus.SUCCESS)
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
    store_candle(0)
    message, _ = evaluate_age(instance)
    assert "retention in time" in message
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.FAILURE)
    monkeypatch.setattr(alerts.time, "time", lambda: now + 3 * 86_400)
    evaluate_age(instance)
    assert "the last successful retention: 20" in hook.texts[-1]


def test_both_sensors_are_on_by_default():
    for name in ("run_failure_alert", "stale_data_alert"):
        sensor = defs.resolve_sensor_def(name)
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert sensor.description


def test_the_address_is_in_no_representation_and_no_log(instance, hook, caplog):
    store_candle(9)
    with caplog.at_level(logging.DEBUG):
        _, cursor = evaluate_age(instance)
    settings = Settings.from_environment()
    assert settings.webhook_url == hook.url
    assert SECRET not in repr(settings) + str(settings) + caplog.text + cursor
