"""What becomes of candles that do not come: asked again, recorded with their cause, healed."""

from collections import Counter

import numpy as np
import pytest

from flash_pipeline.errors import ExchangeFault
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.ingest.ledger import GAPS_TABLE
from flash_pipeline.ingest.merge import within
from flash_pipeline.market import CandleAnswer, Interval, Month, TimeRange, iso_utc, parse_instant
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
DAY_1 = parse_instant("2024-06-01")


def losing(*hours, times=99):
    """Leave these hours of June out of the first answers that hold them."""
    left = Counter(dict.fromkeys(hours, times))

    def distort(asked, answer):
        if asked.interval is Interval.DAY_1:
            return answer
        starts = answer.candles["start_time"].to_pylist()
        lost = {s for s in starts if left[(s - DAY_1) // HOUR] > 0}
        left.subtract((s - DAY_1) // HOUR for s in lost)
        kept = [n for n, start in enumerate(starts) if start not in lost]
        return CandleAnswer(answer.candles.take(np.array(kept, dtype=np.int64)), answer.as_of)

    return distort


def gaps(ledger):
    rows = ledger.read(GAPS_TABLE).to_pylist()
    return [
        (iso_utc(r["first_start"]), iso_utc(r["last_start"]), r["candles"], r["cause"])
        for r in rows
        if r["filled_at"] is None
    ]


@pytest.fixture
def june(market, series):
    return market(BTCUSDT=series("2024-06-01", 24 * 30))


@pytest.mark.parametrize("times", [1, 2])
def test_a_candle_lost_from_an_answer_is_asked_for_again(refresh, june, store, ledger, times):
    june.distort = losing(100, 101, 500, times=times)
    done, asked = refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    assert store.read_all("BTCUSDT").equals(june.truth["BTCUSDT"])
    assert (done.missing, done.requests, gaps(ledger)) == (0, 1 + times, [])
    assert asked[-1].window.start == DAY_1 + 100 * HOUR


def test_an_answer_that_is_empty_by_mistake_is_asked_for_again(refresh, june, store, ledger):
    june.distort = losing(*range(720), times=1)
    done, _ = refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    assert store.read_all("BTCUSDT").equals(june.truth["BTCUSDT"])
    assert (done.missing, gaps(ledger)) == (0, [])


def test_a_candle_that_comes_in_no_answer_is_a_gap_of_the_exchange(refresh, june, store, ledger):
    june.distort = losing(100, 101, 500)
    done, asked = refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    assert (done.rows, done.missing, len(asked)) == (717, 3, 3)
    assert done.missing_by_cause == {"exchange_gap": 3}
    assert gaps(ledger) == [
        ("2024-06-05T04:00Z", "2024-06-05T05:00Z", 2, "exchange_gap"),
        ("2024-06-21T20:00Z", "2024-06-21T20:00Z", 1, "exchange_gap"),
    ]
    held = store.read_all("BTCUSDT")["start_time"].to_pylist()
    assert DAY_1 + 100 * HOUR not in held


def test_a_known_gap_is_asked_for_once_and_healed(refresh, june, store, ledger):
    june.distort = losing(100, 101, 500)
    refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    june.distort = losing(101)
    done, asked = refresh(june, "2024-07-16", "2024-06", ledger=ledger)
    assert [query.hours for query in asked] == [401]
    assert done.missing_by_cause == {"exchange_gap": 1}
    rows = {iso_utc(r["first_start"]): r for r in ledger.read(GAPS_TABLE).to_pylist()}
    assert [r["filled_at"] for r in rows.values()] == [
        parse_instant("2024-07-16"),
        None,
        parse_instant("2024-07-16"),
    ]
    still = rows["2024-06-05T05:00Z"]
    assert still["found_at"] == parse_instant("2024-07-15")
    assert still["checked_at"] == parse_instant("2024-07-16")


def test_a_gap_filled_by_other_means_is_filled_on_record(refresh, june, store, ledger):
    june.distort = losing(100)
    refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    (month,) = store.months("BTCUSDT")
    store.write_month("BTCUSDT", month, june.truth["BTCUSDT"], synthetic=False)
    done, asked = refresh(june, "2024-07-15", "2024-06", ledger=ledger)
    assert (done.missing, asked, gaps(ledger)) == (0, [], [])


def test_the_listing_is_found_by_one_request_of_days(refresh, market, series, ledger):
    young, old = series("2024-06-10T07:00Z", 24 * 30), series("2024-01-01", 24 * 200)
    source = market(BTCUSDT=young, ETHUSDT=old)
    both = ("BTCUSDT", "ETHUSDT")
    done, asked = refresh(
        source, "2024-07-01T00:30Z", "2024-01", "2024-06", symbols=both, ledger=ledger
    )
    assert gaps(ledger) == [("2024-01-01T00:00Z", "2024-06-10T06:00Z", 3871, "before_listing")]
    assert done.missing_by_cause == {"before_listing": 3871}
    by_interval = Counter(query.interval for query in asked if query.symbol == "BTCUSDT")
    # Five windows; the days; the seven hours of the first day twice more.
    assert by_interval == {Interval.HOUR_1: 5 + 2, Interval.DAY_1: 1}
    assert source.asked_for_delisted == 0


def test_a_listing_that_is_known_is_not_looked_up_again(refresh, market, series, ledger):
    source = market(BTCUSDT=series("2024-06-10T07:00Z", 24 * 30))
    refresh(source, "2024-06-20T00:30Z", "2024-06", ledger=ledger)
    _, asked = refresh(source, "2024-06-20T01:30Z", "2024-06", ledger=ledger)
    assert [query.interval for query in asked] == [Interval.HOUR_1]


def test_a_request_of_days_that_comes_back_empty_settles_nothing(
    refresh, market, series, store, ledger
):
    source = market(BTCUSDT=series("2024-05-20", 24 * 60))
    first = losing(*range(-24 * 12, 400), times=1)

    def distort(asked, answer):
        if asked.interval is Interval.DAY_1:
            return CandleAnswer(answer.candles.slice(0, 0), answer.as_of)
        return first(asked, answer)

    source.distort = distort
    done, _ = refresh(source, "2024-07-01T00:30Z", "2024-05", "2024-06", ledger=ledger)
    wanted = within(source.truth["BTCUSDT"], TimeRange(0, parse_instant("2024-07-01")))
    assert store.read_all("BTCUSDT").equals(wanted)
    assert done.missing_by_cause == {"before_listing": 19 * 24}


def test_a_day_is_its_own_coarse_interval(market, series, tmp_path):
    """Nothing coarser is asked for: the days before the first are asked for like any others."""
    source = market(BTCUSDT=series("2024-06-10", 24 * 30))
    source.now_ms = parse_instant("2024-06-20T00:30Z")
    june = Month(2024, 6)
    store = KlineStore(tmp_path / "days", Interval.DAY_1)
    done = refresh_klines(source, store, ["BTCUSDT"], june, june)
    assert (done.rows, done.missing_by_cause, done.requests) == (10, {"before_listing": 9}, 3)


def test_a_symbol_that_trades_no_more_is_delisted_after_its_last_candle(
    refresh, market, series, ledger
):
    source = market(BTCUSDT=series("2024-06-01", 240), ETHUSDT=series("2024-06-01", 720))
    source.gone = frozenset({"BTCUSDT"})
    both = ("BTCUSDT", "ETHUSDT")
    done, _ = refresh(source, "2024-06-20T00:30Z", "2024-06", symbols=both, ledger=ledger)
    assert done.missing_by_cause == {"delisted": 9 * 24}
    assert gaps(ledger) == [("2024-06-11T00:00Z", "2024-06-19T23:00Z", 216, "delisted")]
    assert source.asked_for_delisted == 1


def test_a_delisted_symbol_costs_one_request_an_hour(refresh, market, series, ledger):
    source = market(BTCUSDT=series("2024-06-01", 240))
    source.gone = frozenset({"BTCUSDT"})
    refresh(source, "2024-06-20T00:30Z", "2024-06", ledger=ledger)
    done, asked = refresh(source, "2024-06-20T01:30Z", "2024-06", ledger=ledger)
    assert (len(asked), source.asked_for_delisted) == (1, 1)
    assert done.missing_by_cause == {"delisted": 217}


def test_a_symbol_that_merely_pauses_is_not_delisted(refresh, market, series, ledger):
    source = market(BTCUSDT=series("2024-06-01", 240))
    done, _ = refresh(source, "2024-06-20T00:30Z", "2024-06", ledger=ledger)
    assert done.missing_by_cause == {"exchange_gap": 216}


def test_a_market_that_closes_has_no_gaps_and_is_asked_twice(refresh, market, series, ledger):
    closed = [n for n in range(240) if not 13 <= n % 24 < 20]
    source = market(SPX=series("2024-06-03", 240, absent=closed))
    source.continuous = False
    done, asked = refresh(source, "2024-06-13T00:30Z", "2024-06", symbols=["SPX"], ledger=ledger)
    assert len(asked) == 2
    assert set(done.missing_by_cause) == {"market_closed"}
    assert done.rows == 70


def test_an_answer_cut_short_is_no_closed_market(refresh, market, series, store, ledger):
    source = market(SPX=series("2024-06-03", 240, absent=range(100, 140)))
    source.continuous = False
    source.distort = losing(*range(200, 240), times=1)
    done, _ = refresh(source, "2024-06-13T00:00Z", "2024-06", symbols=["SPX"], ledger=ledger)
    assert store.read_all("SPX").equals(source.truth["SPX"])
    assert done.missing_by_cause == {"market_closed": 48 + 40}


def test_a_closed_market_that_is_known_is_asked_once(refresh, market, series, ledger):
    source = market(SPX=series("2024-06-03", 240, absent=range(100, 140)))
    source.continuous = False
    refresh(source, "2024-06-13T00:00Z", "2024-06", symbols=["SPX"], ledger=ledger)
    _, asked = refresh(source, "2024-06-13T00:30Z", "2024-06", symbols=["SPX"], ledger=ledger)
    assert len(asked) == 1


def test_a_month_in_which_a_market_has_not_opened_yet_is_no_error(refresh, market, series):
    source = market(SPX=series("2024-06-03", 240))
    source.continuous = False
    done, _ = refresh(source, "2024-06-02T00:30Z", "2024-06", symbols=["SPX"])
    assert done.rows == 0


def test_a_failure_leaves_whole_symbols_behind(refresh, market, series, store, files):
    whole = series("2024-06-01", 48)
    source = market(BTCUSDT=whole, ETHUSDT=whole, XRPUSDT=whole)

    def distort(asked, answer):
        if asked.symbol == "ETHUSDT":
            raise ExchangeFault("broken")
        return answer

    source.distort = distort
    symbols = ("BTCUSDT", "ETHUSDT", "XRPUSDT")
    with pytest.raises(ExchangeFault):
        refresh(source, "2024-06-02T00:00Z", "2024-06", symbols=symbols)
    for symbol in symbols:
        assert store.read_all(symbol).num_rows in {0, 24}
    assert not [name for name in files() if ".tmp-" in name]
    source.distort = lambda _, answer: answer
    done, _ = refresh(source, "2024-06-02T00:00Z", "2024-06", symbols=symbols)
    assert (done.rows, done.missing) == (72, 0)
