import numpy as np
import pytest

from flash_pipeline.exchange.mark import basis, mark_columns, mark_price
from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.market import Interval

HOUR = 3_600_000


def _mark(market, now, interval=Interval.HOUR_1, rows=200, symbol="BTCUSDT"):
    candles = market.candles(CandleRequest(symbol, interval, 0, now, rows), now)
    return candles, mark_columns(candles, interval, market.instruments[symbol])


def test_mark_price_stays_close_to_the_last_price(market, now):
    candles, (start, _, _, _, close) = _mark(market, now)
    np.testing.assert_array_equal(start, candles.start_time)
    assert 0 < np.abs(close / candles.close - 1).max() < 4e-4


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BNBUSDT", "1000PEPEUSDT"])
def test_every_mark_candle_is_sane_and_on_the_tick(market, now, symbol):
    _, (_, open_, high, low, close) = _mark(market, now, symbol=symbol)
    assert (low <= np.minimum(open_, close)).all()
    assert (high >= np.maximum(open_, close)).all()
    ticks = close / float(market.instruments[symbol].tick_size)
    np.testing.assert_allclose(ticks, np.rint(ticks), rtol=1e-9)


def test_mark_candles_do_not_depend_on_the_window(market, now):
    _, long = _mark(market, now, rows=50)
    _, short = _mark(market, now, rows=5)
    for wide, narrow in zip(long, short, strict=True):
        np.testing.assert_array_equal(wide[-5:], narrow)


def test_intervals_agree_on_opens_and_closes(market, now):
    day = Interval.DAY_1.floor(now) - 24 * HOUR
    hours = market.candles(
        CandleRequest("BTCUSDT", Interval.HOUR_1, day, day + 24 * HOUR - 1, 24), now
    )
    days = market.candles(CandleRequest("BTCUSDT", Interval.DAY_1, day, day, 1), now)
    bitcoin = market.instruments["BTCUSDT"]
    _, fine_open, _, _, fine_close = mark_columns(hours, Interval.HOUR_1, bitcoin)
    _, open_, _, _, close = mark_columns(days, Interval.DAY_1, bitcoin)
    assert (open_[0], close[0]) == (fine_open[0], fine_close[-1])


def test_the_basis_is_bounded_and_another_for_each_symbol():
    times = np.arange(1000) * HOUR
    bitcoin, ether = basis("BTCUSDT", times), basis("ETHUSDT", times)
    assert np.abs(bitcoin).max() <= 3e-4
    assert abs(bitcoin.mean()) < 3e-5
    assert not np.array_equal(bitcoin, ether)


def test_a_mark_price_is_a_multiple_of_the_tick(market, now):
    assert mark_price(1.0, market.instruments["BNBUSDT"], now) == 1.0
