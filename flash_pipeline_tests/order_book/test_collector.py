import time
from threading import Event, Thread

import numpy as np
import pytest

from flash_pipeline.bybit import BookAnswer, BybitClient
from flash_pipeline.errors import (
    CircuitOpen,
    ExchangeUnreachable,
    HomeBusy,
    InvalidConfig,
    InvalidSymbol,
    SchemaMismatch,
    UnknownSymbol,
)
from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import parse_instant
from flash_pipeline.order_book import BookStore, CollectorConfig, collect
from flash_pipeline.order_book.journal import Journal, fold_journals, journal_path
from flash_pipeline.order_book.store import day_of
from flash_pipeline_tests.order_book.conftest import START

DAY = day_of(START)
FAST = CollectorConfig(("BTCUSDT", "ETHUSDT"), cadence_s=0.05, levels=3)


def answer(at: int, symbol: str = "BTCUSDT", levels: int = 3) -> BookAnswer:
    bids = tuple((f"{99 - n}.5", "1") for n in range(levels))
    asks = tuple((f"{101 + n}", f"{2 + at % 3}") for n in range(levels))
    return BookAnswer(symbol, at, at, bids, asks)


class Scripted:
    """An exchange whose clock goes on by a second with each poll."""

    def __init__(self, *failures: Exception | None) -> None:
        self.failures = list(failures)
        self.at = {}

    def instrument(self, _symbol):
        return {"priceFilter": {"tickSize": "0.50"}}

    def is_synthetic(self):
        return False

    def order_book(self, symbol, levels):
        if levels == 1:
            return answer(START, symbol)
        failure = self.failures.pop(0) if self.failures else None
        self.at[symbol] = self.at.get(symbol, START) + 50
        if failure is not None:
            raise failure
        return answer(self.at[symbol], symbol)


def fold(store: BookStore, **options) -> int:
    options = {"levels": 3, "cadence_ms": 1000, "tick_size": 0.5, "synthetic": False, **options}
    return fold_journals(store, "BTCUSDT", **options)


def test_collects_what_the_exchange_answers(tmp_path):
    market, clock = SimulatedMarket(seed=7), Clock(parse_instant("2026-03-10T12:00Z"))
    with embedded_exchange(market=market, clock=clock) as url, BybitClient(url) as client:
        collected = collect(client, tmp_path, FAST, Event(), until_s=1.0)
        assert collected.snapshots["BTCUSDT"] > 5
        store = BookStore(tmp_path)
        series = store.read_day("BTCUSDT", DAY)
        assert len(series) == collected.snapshots["BTCUSDT"]
        assert store.synthetic()
        flow = market.order_flow("BTCUSDT")
    ((_, bids, _),) = flow.depth(range(series.time_T[3] // 100, series.time_T[3] // 100 + 1), 3)
    best = (np.flatnonzero(bids.orders[0])[-1] + bids.first) * flow.ticks_per_step * 0.1
    assert series.price_TLS()[3, 0, 0] == pytest.approx(best)
    assert series.tick_T[0] == 0.1


def test_stops_soon_when_told_and_keeps_everything(tmp_path):
    stop, results = Event(), []
    thread = Thread(target=lambda: results.append(collect(Scripted(), tmp_path, FAST, stop)))
    thread.start()
    time.sleep(0.4)
    stop.set()
    thread.join(2.0)
    assert not thread.is_alive()
    assert len(BookStore(tmp_path).read_day("BTCUSDT", DAY)) == results[0].snapshots["BTCUSDT"] > 0
    assert list(tmp_path.rglob("*.journal")) == []


def test_a_poll_that_fails_is_missed_and_listed_among_the_gaps(tmp_path):
    one = CollectorConfig(("BTCUSDT",), cadence_s=0.05, levels=3)
    source = Scripted(None, ExchangeUnreachable("away"), None)
    collected = collect(source, tmp_path, one, Event(), until_s=0.5)
    assert collected.missed["BTCUSDT"] >= 1
    series = BookStore(tmp_path).read_day("BTCUSDT", DAY)
    assert series.gaps[0].kind == "unanswered"
    assert series.gaps[0].end - series.gaps[0].start == 100


def test_a_ban_is_waited_out(tmp_path):
    one = CollectorConfig(("BTCUSDT",), cadence_s=0.05, levels=3)
    ban = CircuitOpen("banned", until=round((time.time() + 1.0) * 1000))
    source = Scripted(ban)
    begun = time.monotonic()
    collected = collect(source, tmp_path, one, Event(), until_s=1.5)
    assert time.monotonic() - begun > 1.0
    assert 0 < collected.snapshots["BTCUSDT"] < 20


def test_an_error_for_good_ends_it_with_what_was_taken_stored(tmp_path):
    one = CollectorConfig(("BTCUSDT",), cadence_s=0.05, levels=3)
    with pytest.raises(UnknownSymbol):
        collect(Scripted(None, None, UnknownSymbol("gone")), tmp_path, one, Event())
    assert len(BookStore(tmp_path).read_day("BTCUSDT", DAY)) == 2


def test_a_journal_that_was_left_is_folded_whole_and_only_once(tmp_path):
    store = BookStore(tmp_path)
    with Journal(store, "BTCUSDT") as journal:
        for n in range(10):
            journal.append(answer(START + 1000 * n), 3)
    path = journal_path(store, "BTCUSDT", DAY)
    text = path.read_bytes()
    assert fold(store) == 10
    assert not path.exists()
    path.write_bytes(text)  # killed between the two
    assert fold(store) == 10
    assert len(store.read_day("BTCUSDT", DAY)) == 10


def test_a_line_cut_short_is_left_out_and_the_next_ones_are_kept(tmp_path):
    store = BookStore(tmp_path)
    with Journal(store, "BTCUSDT") as journal:
        journal.append(answer(START), 3)
    path = journal_path(store, "BTCUSDT", DAY)
    path.write_bytes(path.read_bytes() + b'{"topic":"orderbook.3.BTC')
    with Journal(store, "BTCUSDT") as journal:
        journal.append(answer(START + 1000), 3)
    assert fold(store) == 2
    series = store.read_day("BTCUSDT", DAY)
    assert len(series) == 2
    assert [gap.kind for gap in series.gaps] == ["torn"]


def test_a_book_of_fewer_levels_is_masked_and_a_new_tick_size_is_found(tmp_path):
    store = BookStore(tmp_path)
    with Journal(store, "BTCUSDT") as journal:
        journal.append(answer(START), 3)
        journal.append(answer(START + 1000, levels=2), 3)
    fold(store, tick_size=2.0)
    series = store.read_day("BTCUSDT", DAY)
    assert series.tick_T.tolist() == [0.5, 0.5]
    assert np.isnan(series.book_TLS2[1, 2]).all()
    assert [gap.kind for gap in series.gaps] == ["thin"]


def test_two_collectors_do_not_work_in_one_folder(tmp_path):
    from flash_pipeline.storage import lock

    with lock.claim_home(tmp_path):
        held = lock._held.pop(tmp_path / ".run.lock")  # as another process would hold it
        try:
            with pytest.raises(HomeBusy):
                collect(Scripted(), tmp_path, FAST, Event(), until_s=0.1)
        finally:
            lock._held[tmp_path / ".run.lock"] = held


def test_a_day_with_other_levels_is_not_begun(tmp_path):
    one = CollectorConfig(("BTCUSDT",), cadence_s=0.05, levels=3)
    collect(Scripted(), tmp_path, one, Event(), until_s=0.2)
    other = CollectorConfig(("BTCUSDT",), cadence_s=0.05, levels=5)
    with pytest.raises(SchemaMismatch, match="has 3 levels, asked for 5"):
        collect(Scripted(), tmp_path, other, Event(), until_s=0.2)


def test_what_cannot_be_polled_is_refused():
    with pytest.raises(InvalidConfig, match="60 requests a second, at most 50"):
        CollectorConfig(tuple(f"SYN{n:03d}USDT" for n in range(60)))
    with pytest.raises(InvalidConfig, match="levels=1001"):
        CollectorConfig(("BTCUSDT",), levels=1001)
    with pytest.raises(InvalidConfig, match="cadence 0"):
        CollectorConfig(("BTCUSDT",), cadence_s=0)
    with pytest.raises(InvalidSymbol):
        CollectorConfig(("btc",))


def test_a_crossed_answer_is_a_gap_and_stops_no_fold(tmp_path):
    store = BookStore(tmp_path)
    crossed = BookAnswer("BTCUSDT", START + 1000, 1, (("105", "1"),), (("101", "1"),))
    with Journal(store, "BTCUSDT") as journal:
        for book in (answer(START), crossed, answer(START + 2000)):
            journal.append(book, 3)
    assert fold(store) == 2
    series = store.read_day("BTCUSDT", DAY)
    assert series.time_T.tolist() == [START, START + 2000]
    assert {gap.kind for gap in series.gaps} >= {"crossed"}
