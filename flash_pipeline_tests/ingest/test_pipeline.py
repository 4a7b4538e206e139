"""How many windows are in flight, and how much is held in memory."""

import threading
import time

import pytest

from flash_pipeline.errors import ExchangeFault
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.market import Month, parse_instant
from flash_pipeline.storage.klines import KlineStore


class Gauge:
    """How many are inside at a time, at most."""

    def __init__(self):
        self.inside = self.most = self.entered = 0
        self._lock = threading.Lock()

    def __enter__(self):
        with self._lock:
            self.inside += 1
            self.entered += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_):
        with self._lock:
            self.inside -= 1


@pytest.fixture
def many(market, series):
    """Forty symbols of a month, in windows of a hundred: eight windows each."""
    truth = {f"S{n:02d}USDT": series("2024-06-01", 720, level=n + 2.0) for n in range(40)}
    source = market(**truth)
    source.most_candles = 100
    source.now_ms = parse_instant("2024-07-15")
    return source


def _refresh(source, store):
    return refresh_klines(source, store, list(source.truth), Month(2024, 6), Month(2024, 6))


def test_at_least_24_windows_are_in_flight_across_symbols(many, store):
    gauge = Gauge()

    def slow(_asked, answer):
        with gauge:
            time.sleep(0.02)
        return answer

    many.distort = slow
    done = _refresh(many, store)
    assert gauge.most >= 24
    assert (done.rows, done.missing, done.requests) == (40 * 720, 0, 40 * 8)
    for symbol, truth in many.truth.items():
        assert store.read_all(symbol).equals(truth)


def test_few_symbols_are_asked_for_before_the_first_is_stored(many, store, monkeypatch):
    asked_at_first_write = []
    write_month = KlineStore.write_month

    def write(self, *arguments, **options):
        if not asked_at_first_write:
            asked_at_first_write.append(len({query.symbol for query in list(many.asked)}))
        time.sleep(0.01)
        write_month(self, *arguments, **options)

    monkeypatch.setattr(KlineStore, "write_month", write)
    _refresh(many, store)
    assert asked_at_first_write[0] <= 14  # 96 windows, of the 320


def test_after_a_failure_hardly_any_window_is_asked_for(many, store):
    def distort(asked, answer):
        if asked.symbol == "S02USDT":
            raise ExchangeFault("broken")
        time.sleep(0.005)
        return answer

    many.distort = distort
    with pytest.raises(ExchangeFault, match="broken"):
        _refresh(many, store)
    assert len(many.asked) < 200
