import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig, InvalidSymbol
from flash_pipeline.exchange import SimulatedMarket
from flash_pipeline.exchange.simulation.flow_model import NO_LEAN, Lean
from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.market import Interval, parse_instant

HOUR = 3_600_000
MONTH = 30 * 24 * HOUR
DEFAULTS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT")


def _rows(market, symbol, interval, first, last, now, limit=10**6):
    request = CandleRequest(symbol, interval, first, last, limit)
    return np.array(market.candles(request, now).columns())


def _hours(market, symbol, now, months=3):
    return _rows(market, symbol, Interval.HOUR_1, now - months * MONTH, now, now)


def test_two_instances_of_one_seed_agree(market, now):
    other = SimulatedMarket(market.seed)
    np.testing.assert_array_equal(_hours(market, "SOLUSDT", now), _hours(other, "SOLUSDT", now))


def test_another_seed_is_another_market(market, now):
    other = SimulatedMarket(market.seed + 1)
    assert not np.array_equal(_hours(market, "SOLUSDT", now)[4], _hours(other, "SOLUSDT", now)[4])


def test_the_order_of_requests_does_not_matter(now):
    forward, backward = SimulatedMarket(3), SimulatedMarket(3)
    asked = [(symbol, now - months * MONTH) for symbol in DEFAULTS[:3] for months in (9, 4, 0)]
    first = {key: _hours(forward, *key, months=1) for key in asked}
    second = {key: _hours(backward, *key, months=1) for key in reversed(asked)}
    for key in asked:
        np.testing.assert_array_equal(first[key], second[key])


def test_a_later_clock_does_not_change_the_past(now):
    market = SimulatedMarket(3)
    closed = now // HOUR * HOUR - HOUR
    before = _rows(market, "BTCUSDT", Interval.HOUR_1, closed - MONTH, closed, now)
    _hours(market, "BTCUSDT", now + 24 * MONTH)
    later = now + 24 * MONTH
    after = _rows(market, "BTCUSDT", Interval.HOUR_1, closed - MONTH, closed, later)
    np.testing.assert_array_equal(before, after)


def test_pages_of_a_range_equal_the_whole(market, now):
    last = now // HOUR * HOUR - HOUR
    whole = _rows(market, "XRPUSDT", Interval.HOUR_1, last - 2 * MONTH, last, now)
    middle = last - MONTH - 5 * HOUR
    older = _rows(market, "XRPUSDT", Interval.HOUR_1, last - 2 * MONTH, middle, now)
    newer = _rows(market, "XRPUSDT", Interval.HOUR_1, middle + HOUR, last, now)
    np.testing.assert_array_equal(whole, np.concatenate([older, newer], axis=1))


@pytest.mark.parametrize("interval", list(Interval))
def test_candles_of_every_interval_aggregate_from_minutes(market, now, interval):
    first = Interval.DAY_1.floor(now - 40 * 24 * HOUR)
    last = first + 2 * 24 * HOUR - 1
    minutes = CandleRequest("ETHUSDT", Interval.MIN_1, first, last, 10**6)
    expected = market.candles(minutes, now).aggregate(interval)
    got = market.candles(CandleRequest("ETHUSDT", interval, first, last, 10**6), now)
    for prices, wanted in zip(got.columns()[:5], expected.columns()[:5], strict=True):
        np.testing.assert_array_equal(prices, wanted)
    np.testing.assert_allclose(got.volume, expected.volume, rtol=1e-12)
    np.testing.assert_allclose(got.turnover, expected.turnover, rtol=1e-12)


@pytest.mark.parametrize("symbol", [*DEFAULTS, "1000PEPEUSDT", "ASTERUSDT"])
@pytest.mark.parametrize("interval", [Interval.MIN_1, Interval.HOUR_1, Interval.DAY_1])
def test_every_closed_candle_is_sane(market, now, symbol, interval):
    last = interval.floor(now) - interval.milliseconds
    rows = _rows(market, symbol, interval, last - 60 * 24 * HOUR, last, now)
    start, open_, high, low, close, volume, turnover = rows
    assert (np.diff(start) == interval.milliseconds).all()
    assert (low > 0).all()
    assert (low <= np.minimum(open_, close)).all()
    assert (high >= np.maximum(open_, close)).all()
    assert (volume > 0).all()
    assert (low <= turnover / volume).all()
    assert (turnover / volume <= high).all()


@pytest.mark.parametrize("symbol", DEFAULTS)
def test_prices_and_volumes_are_multiples_of_their_steps(market, now, symbol):
    instrument = market.instruments[symbol]
    rows = _hours(market, symbol, now, months=1)
    for values, step in (
        (rows[1:5], float(instrument.tick_size)),
        (rows[5], float(instrument.quantity_step)),
    ):
        np.testing.assert_allclose(values / step, np.rint(values / step), rtol=1e-12)


def test_a_candle_mostly_opens_at_the_previous_close(market, now):
    rows = _hours(market, "BTCUSDT", now)
    jumps = np.abs(rows[1, 1:] - rows[4, :-1])
    assert 0.9 < (jumps == 0).mean() < 1.0
    assert jumps.max() < 0.11  # one tick


def test_the_forming_candle_holds_the_closed_minutes_and_the_open_of_the_current_one(market, now):
    start, minute = Interval.HOUR_1.floor(now), Interval.MIN_1.floor(now)
    (forming,) = _rows(market, "BTCUSDT", Interval.HOUR_1, now, now, now).T
    later = now + HOUR
    minutes = _rows(market, "BTCUSDT", Interval.MIN_1, start, minute, later)
    assert forming[0] == start
    assert forming[1] == minutes[1, 0]
    assert forming[4] == minutes[1, -1]
    assert forming[5] == pytest.approx(minutes[5, :-1].sum())
    (final,) = _rows(market, "BTCUSDT", Interval.HOUR_1, start, start, later).T
    assert forming[5] < final[5]


def test_the_forming_candle_is_there_from_its_first_instant(market, now):
    start = Interval.HOUR_1.floor(now)
    (forming,) = _rows(market, "BTCUSDT", Interval.HOUR_1, start, start, start).T
    assert forming[0] == start
    assert forming[1] == forming[2] == forming[3] == forming[4]
    assert forming[5] == forming[6] == 0


def test_nothing_is_served_before_the_launch(market, now):
    launch = market.instruments["ASTERUSDT"].launch_ms
    assert launch == parse_instant("2025-09-19T08:00Z")
    assert market.last_price("ASTERUSDT", launch - 1) is None
    assert _rows(market, "ASTERUSDT", Interval.HOUR_1, 0, now, launch - 1).shape[1] == 0
    rows = _rows(market, "ASTERUSDT", Interval.HOUR_1, 0, now, now)
    assert rows[0, 0] == launch


def test_the_day_of_the_launch_holds_its_hours_only(market, now):
    day = parse_instant("2025-09-19")
    (candle,) = _rows(market, "ASTERUSDT", Interval.DAY_1, 0, day, now).T
    hours = _rows(market, "ASTERUSDT", Interval.HOUR_1, 0, day + 24 * HOUR - 1, now)
    assert hours.shape[1] == 16
    assert candle[[1, 2, 3, 4]].tolist() == [
        hours[1, 0],
        hours[2].max(),
        hours[3].min(),
        hours[4, -1],
    ]


def test_the_five_default_symbols_are_listed_by_october_2021(market):
    limit = parse_instant("2021-10-15")
    assert all(market.instruments[symbol].launch_ms <= limit for symbol in DEFAULTS)
    assert len(market.instruments) >= 15


@pytest.mark.parametrize("symbol", [*DEFAULTS, "1000PEPEUSDT"])
def test_prices_stay_in_range_for_ten_years(market, symbol):
    launch = market.instruments[symbol].launch_ms
    years = range(launch, parse_instant("2031-01-01"), 365 * 24 * HOUR)
    prices = [market.last_price(symbol, at) for at in years]
    assert min(prices) > 100 * float(market.instruments[symbol].tick_size)
    assert max(prices) < 300 * min(prices)  # real ones have moved as far


def test_an_unknown_symbol_is_refused(market, now):
    with pytest.raises(InvalidSymbol, match="NOPEUSDT"):
        market.last_price("NOPEUSDT", now)


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidConfig, match="-1"):
        SimulatedMarket(-1)


def test_funding_is_bounded_varied_and_mostly_the_interest(market, now):
    rates = np.array([f.rate for f in market.funding("SOLUSDT", 0, now, 1000, now)])
    assert len(rates) == 1000
    assert np.abs(rates).max() <= 0.00375
    assert np.median(rates) == 0.0001
    assert rates.min() < 0.0001 < rates.max()
    assert (rates == np.round(rates, 8)).all()


def test_funding_of_a_settlement_does_not_depend_on_the_clock(market, now):
    last = now - 30 * 24 * HOUR
    early = market.funding("BTCUSDT", 0, last, 50, last)
    late = market.funding("BTCUSDT", 0, last, 50, now)
    assert early == late


def test_the_order_flow_leans_unless_the_market_is_told_otherwise():
    assert SimulatedMarket().order_flow("BTCUSDT").lean == Lean()
    assert SimulatedMarket(lean=NO_LEAN).order_flow("BTCUSDT").lean == NO_LEAN
