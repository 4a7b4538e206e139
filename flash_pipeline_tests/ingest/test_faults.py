"""Backfills and ticks against an exchange that fails in every way it knows, from a seed."""

import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.exchange import Clock, Faults, FaultSpec, SimulatedMarket, embedded_exchange
from flash_pipeline.exchange.faults import KINDS
from flash_pipeline.ingest import Ledger, refresh_klines
from flash_pipeline.market import Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.transport import RequestBudget, Timeouts
from flash_pipeline.transport.wire import PoliteSession

HOUR = 3_600_000
NOW = parse_instant("2024-06-30T21:30:00Z")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")
JUNE = Month(2024, 6)
MARKET = SimulatedMarket(seed=7)
MENDED_LATER = {"preliminary_rows", "server_time_back", "envelope_clock_back", "vanished_symbol"}
"""Kinds that hold back what only a later run can know."""


class Elapsed:
    """Seconds that go by faster where someone waits."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        self._skipped += seconds


class NamedHost(PoliteSession):
    """Takes the exchange for a host of the internet, which gets a budget and a circuit."""

    def __init__(self, url: str) -> None:
        super().__init__(Timeouts(0.4, 0.4, 1.2), trust_env=False, user_agent="test")
        self._url = url

    def get(self, url, **options):
        return super().get(url.replace("http://bybit.invalid", self._url), **options)


def _refresh(home: Path, url: str, first: Month, symbols) -> None:
    store = KlineStore(home / "klines", Interval.HOUR_1)
    ledger = Ledger(home / "warehouse.duckdb", "bybit", Interval.HOUR_1)
    elapsed = Elapsed()
    with BybitClient(
        "http://bybit.invalid",
        session=NamedHost(url),
        read_timeout_s=0.4,
        sleep=elapsed.sleep,
        budget=RequestBudget(monotonic=elapsed.monotonic, sleep=elapsed.sleep),
    ) as client:
        refresh_klines(client, store, symbols, first, JUNE, ledger=ledger)


def _run(home, spec, now=NOW, first=JUNE, symbols=SYMBOLS[:1]):
    """Refresh until a run ends without an error, and return what was injected."""
    faults = None if spec is None else Faults(spec)
    with embedded_exchange(market=MARKET, clock=Clock(now, speed=0), faults=faults) as url:
        for _ in range(50):
            try:
                _refresh(home, url, first, symbols)
            except FlashPipelineError:
                continue
            return Counter() if faults is None else faults.counts
    raise AssertionError("fifty runs in a row failed")


def _digests(home: Path) -> dict[str, str]:
    paths = (home / "klines").glob("symbol=*/month=*.parquet")
    return {str(p.relative_to(home)): sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The files of one month of one symbol."""
    home = tmp_path_factory.mktemp("undisturbed")
    _run(home, None)
    return _digests(home)


@pytest.mark.parametrize("kind", KINDS)
def test_two_faults_of_a_kind_in_a_row_leave_the_files_of_an_undisturbed_run(
    tmp_path, undisturbed, kind
):
    spec = FaultSpec(seed=1, rate=1.0, kinds=(kind,), burst=2, latency_ms=1)
    assert _run(tmp_path, spec)[kind] >= 1
    if kind in MENDED_LATER:
        _run(tmp_path, None)
    assert _digests(tmp_path) == undisturbed


@pytest.mark.parametrize("stored", [False, True])
def test_a_clock_that_was_hours_behind_once_holds_nothing_back_and_drops_nothing(
    tmp_path, undisturbed, stored
):
    if stored:
        _run(tmp_path, None)
    first_reading_only = FaultSpec(seed=73, rate=0.3, kinds=("server_time_back",), burst=1)
    assert _run(tmp_path, first_reading_only).total() == 1
    assert _digests(tmp_path) == undisturbed


def test_a_preliminary_candle_is_recorded_as_revised_once_it_is_final(tmp_path):
    _run(tmp_path, FaultSpec(rate=1.0, kinds=("preliminary_rows",), burst=2))
    _run(tmp_path, None, now=NOW + HOUR)
    ledger = Ledger(tmp_path / "warehouse.duckdb", "bybit", Interval.HOUR_1)
    revised = ledger.read("kline_revisions").to_pylist()
    assert [row["start_time"] for row in revised] == [
        NOW // HOUR * HOUR - n * HOUR for n in (3, 2, 1)
    ]
    assert all(row["volume_old"] == pytest.approx(0.75 * row["volume_new"]) for row in revised)


@pytest.mark.slow
def test_hundreds_of_faults_lose_and_invent_nothing(tmp_path):
    steps = (NOW, NOW + HOUR, NOW + 2 * HOUR)
    year = {"first": Month(2023, 7), "symbols": SYMBOLS}
    for now in steps:
        _run(tmp_path / "undisturbed", None, now, **year)
    injected: Counter[str] = Counter()
    for seed in range(3):
        home = tmp_path / str(seed)
        for step, now in enumerate(steps):
            # What the last answer of all holds back cannot be mended.
            held_back = MENDED_LATER if now == steps[-1] else set()
            kinds = tuple(name for name in KINDS if name not in held_back)
            spec = FaultSpec(10 * seed + step, 0.6, kinds, burst=2, latency_ms=5)
            injected += _run(home, spec, now, **year)
        assert _digests(home) == _digests(tmp_path / "undisturbed")
        assert not Ledger(home / "warehouse.duckdb", "bybit", Interval.HOUR_1).open_gaps()
    assert injected.total() >= 200
    assert len(injected) >= 30
