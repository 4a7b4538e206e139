"""The soak's bookkeeping: what is due, when it kills, what its samples say, and its audit."""

import json
import os
import shutil

import pyarrow.compute as pc
import pytest

from benchmarks.soak import Soak, disk_by_part, resume
from benchmarks.soak_audit import audit_home
from benchmarks.soak_definitions import SYMBOLS
from benchmarks.soak_plan import (
    HOUR_MS,
    QUIET_SHARE,
    Sample,
    disk_growth,
    growth,
    memory_growth,
    newest_retention,
    newest_tick,
    peaks,
    plan_kills,
)
from benchmarks.soak_report import findings_of_failures, findings_of_growth, save, summary
from benchmarks.soak_server import processes_of, role, session
from flash_pipeline.bybit import BybitClient
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.features import refresh_features
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.market import Interval, Month, parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse

MIB = 2**20
TICK = parse_instant("2026-01-01T01:02:00Z")


def test_the_newest_tick_is_the_one_that_the_daemon_would_run_after_a_pause():
    assert newest_tick(parse_instant("2026-01-01T05:02:00Z")) == parse_instant(
        "2026-01-01T05:02:00Z"
    )
    assert newest_tick(parse_instant("2026-01-01T05:01:59Z")) == parse_instant(
        "2026-01-01T04:02:00Z"
    )


def test_the_pruning_is_due_once_a_day():
    at = newest_retention(parse_instant("2026-01-01T03:31:00Z"))
    assert at == parse_instant("2025-12-31T03:32:00Z")


KILLED = "flash_pipeline: run aaa of job refresh failed. the process was killed"


@pytest.mark.parametrize(
    ("alerts", "reported", "only_killed"),
    [
        ([KILLED], True, True),
        ([], False, True),
        ([KILLED, KILLED], False, True),
        ([KILLED, "run bbb of job retention failed. the clock is off"], True, False),
        ([KILLED, "run ccc of job retention failed. one of the daemon's own"], True, True),
    ],
)
def test_a_failure_is_reported_once_and_is_that_of_the_server(alerts, reported, only_killed):
    once, killed = findings_of_failures(["aaa", "bbb"], ["aaa"], [*alerts, "data is late"])
    assert (once.ok, killed.ok) == (reported, only_killed)


def test_kills_are_seeded_in_order_and_leave_the_end_alone():
    kills = plan_kills(500, 20, seed=7)
    assert kills == plan_kills(500, 20, seed=7) != plan_kills(500, 20, seed=8)
    assert [kill.hour for kill in kills] == sorted(kill.hour for kill in kills)
    assert len(kills) == 20
    assert kills[0].hour >= 6
    assert kills[-1].hour <= 500 * (1 - QUIET_SHARE)
    assert {kill.kind for kill in kills} == {"SIGKILL", "SIGINT"}


def samples(sizes, life=1):
    return [
        Sample(hour, life, {"daemon": size, "run or helper": 900 * MIB * (hour % 2)}, {"x": size})
        for hour, size in enumerate(sizes)
    ]


def test_what_fills_at_first_and_then_stays_is_flat():
    found = memory_growth(samples([10 * MIB, 100 * MIB, *[200 * MIB] * 20]))
    assert set(found) == {"daemon"}, "runs come and go"
    assert found["daemon"].flat


def test_what_grows_all_the_time_is_not():
    steady = samples([100 * MIB + hour * 10 * MIB for hour in range(40)])
    assert not memory_growth(steady)["daemon"].flat
    assert not disk_growth(steady)["all"].flat
    assert [finding.ok for finding in findings_of_growth(steady)] == [False, False]


def test_only_the_last_life_says_whether_memory_grows():
    grown = samples([MIB * 50 * hour for hour in range(20)])
    quiet = samples([100 * MIB] * 20, life=2)
    assert memory_growth([*grown, *quiet])["daemon"].flat
    assert peaks([*grown, *quiet])["daemon"] == 950 * MIB


def test_nothing_sampled_has_not_grown():
    assert growth([]).flat
    assert memory_growth([]) == {}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python -m dagster dev -m x -h 127.0.0.1", "dagster dev"),
        ("python -m dagster_webserver --port 1", "webserver"),
        ("python -m dagster._daemon run", "daemon"),
        ("python -m dagster api grpc --lazy-load-user-code", "code server"),
        ("python -m dagster code-server start --socket x", "code server"),
        ("python -c from multiprocessing.spawn import spawn_main", "run or helper"),
    ],
)
def test_processes_are_told_apart_by_their_command(command, name):
    assert role(command) == name


def test_disk_is_counted_by_part(tmp_path):
    (tmp_path / "klines").mkdir()
    (tmp_path / "klines" / "a").write_bytes(b"x" * 5000)
    (tmp_path / "mlflow.db-wal").write_bytes(b"x" * 5000)
    found = disk_by_part(tmp_path)
    assert set(found) == {"klines", "mlflow.db"}
    assert found["klines"] >= 5000


def test_what_vanishes_while_the_disk_is_counted_is_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
    walk = os.walk

    def vanishing(top):
        for place in walk(top):
            shutil.rmtree(tmp_path / "b", ignore_errors=True)
            yield place

    monkeypatch.setattr("benchmarks.soak.os.walk", vanishing)
    assert set(disk_by_part(tmp_path)) == {"a"}


def test_a_soak_that_broke_off_goes_on_with_what_it_has_seen(tmp_path):
    log = tmp_path / "soak.log"
    log.write_text(
        "2026-01-01T00:00Z hour    9.5  SIGKILL took 0.0 s, runs at work ['ab', 'cd'], 0 stay\n"
    )
    (tmp_path / "samples.jsonl").write_text(json.dumps(vars(samples([MIB])[0])) + "\n")
    clock = Clock(TICK, speed=0)
    soak = Soak(None, clock, TICK - HOUR_MS, tmp_path, tmp_path, log)
    resume(soak)
    assert soak.samples == samples([MIB])
    assert soak.events == [
        {"hour": 9.5, "kind": "SIGKILL", "at_work": 2},
        {"hour": 1.0, "kind": "resumed", "at_work": 0},
    ]
    assert soak.life == 2


def test_no_process_belongs_to_a_home_that_nobody_started(tmp_path):
    assert processes_of(tmp_path) == {}
    assert session(2**30) == []


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A home with two months of candles and features, as the tick has them."""
    settings = Settings(home=tmp_path_factory.mktemp("soaked"))
    store, months = KlineStore(settings.klines, Interval.HOUR_1), (Month(2025, 12), Month(2026, 1))
    with embedded_exchange(clock=Clock(TICK, speed=0)) as url, BybitClient(url) as client:
        refresh_klines(client, store, SYMBOLS, *months)
    with open_warehouse(settings.warehouse) as connection:
        refresh_features(connection, store, SYMBOLS, *months)
        connection.execute(
            "CREATE TABLE forecasts (symbol VARCHAR, made_at BIGINT, interval VARCHAR, "
            "horizon INTEGER, model_version VARCHAR)"
        )
    return settings, store


def audited(settings):
    found = audit_home(settings, TICK, TICK)
    return {finding.name: finding for finding in found}


def test_a_home_with_everything_passes(stored):
    settings, _ = stored
    assert {name: f.detail for name, f in audited(settings).items() if not f.ok} == {}


def test_a_candle_that_is_missing_or_other_is_found(stored):
    settings, store = stored
    month = Month(2025, 12)
    whole = store.read_month("BTCUSDT", month)
    other = whole.set_column(
        whole.schema.get_field_index("close"),
        whole.schema.field("close"),
        pc.add(whole["close"], 1),
    )
    try:
        store.write_month("BTCUSDT", month, whole.slice(1), synthetic=True)
        missing = audited(settings)["every candle is stored, as it was"]
        store.write_month("BTCUSDT", month, other, synthetic=True)
        changed = audited(settings)["every candle is stored, as it was"]
    finally:
        store.write_month("BTCUSDT", month, whole, synthetic=True)
    assert not missing.ok
    assert "BTCUSDT 2025-12-01T00:00Z missing" in missing.detail
    assert not changed.ok
    assert "744: BTCUSDT 2025-12-01T00:00Z differs" in changed.detail


def test_a_forecast_made_twice_is_found(stored):
    settings, _ = stored
    with open_warehouse(settings.warehouse) as connection:
        row = ("BTCUSDT", TICK // HOUR_MS * HOUR_MS, "60", 24, "1")
        connection.executemany("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?)", [row, row])
    try:
        found = audited(settings)["no forecast is made twice"]
    finally:
        with open_warehouse(settings.warehouse) as connection:
            connection.execute("DELETE FROM forecasts")
    assert not found.ok


def test_the_result_is_a_page_a_file_and_a_picture(tmp_path):
    result = {
        "date": "2026-01-01",
        "hours": 20.0,
        "minutes": 3.0,
        "ticks": {"hourly: run": 3},
        "runs": {"SUCCESS": 3},
        "runs_of_the_daemon_left": 1,
        "alerts": 1,
        "alerts_of_late_data": 0,
        "requests": 40,
        "faults": {"latency": 2},
        "ends": [{"hour": 5.0, "kind": "SIGKILL", "at_work": 1}],
        "findings": [{"name": "no lock is held", "ok": False, "detail": "held"}],
        "samples": [vars(sample) for sample in samples([MIB, MIB])],
    }
    assert "FAIL no lock is held: held" in summary(result)
    path = save(result, tmp_path)
    assert json.loads(path.read_text())["versions"]["dagster"]
    assert path.with_suffix(".png").stat().st_size > 1000
