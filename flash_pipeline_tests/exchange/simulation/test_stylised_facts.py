"""What Cont (Quantitative Finance, 2001) lists, and that returns cannot be predicted."""

import numpy as np
import pytest

from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.market import Interval, parse_instant

FIRST, NOW = parse_instant("2023-01-02"), parse_instant("2026-01-05")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture(scope="module")
def candles(market):
    requests = (CandleRequest(s, Interval.HOUR_1, FIRST, NOW - 1, 10**6) for s in SYMBOLS)
    return dict(zip(SYMBOLS, (market.candles(r, NOW) for r in requests), strict=True))


@pytest.fixture(scope="module")
def returns(candles):
    return {symbol: np.diff(np.log(each.close)) for symbol, each in candles.items()}


def _correlation(x, lag):
    return np.corrcoef(x[lag:], x[:-lag])[0, 1]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_tails_are_fat(returns, symbol):
    x = returns[symbol] - returns[symbol].mean()
    assert 6 < np.mean(x**4) / np.mean(x**2) ** 2 < 200


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_yearly_volatility_is_that_of_crypto(returns, symbol):
    assert 0.3 < returns[symbol].std() * np.sqrt(8760) < 1.3


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_volatility_clusters(returns, symbol):
    size = np.abs(returns[symbol])
    assert _correlation(size, 1) > 0.1
    assert _correlation(size, 24) > 0.08


@pytest.mark.parametrize("lag", [1, 2, 24])
@pytest.mark.parametrize("symbol", SYMBOLS)
def test_returns_are_not_correlated_with_earlier_ones(returns, symbol, lag):
    assert abs(_correlation(np.sign(returns[symbol]), lag)) < 0.025  # 4 standard errors


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_simple_returns_have_no_drift(candles, symbol):
    close = candles[symbol].close
    x = close[1:] / close[:-1] - 1
    assert abs(x.mean()) < 3 * x.std() / np.sqrt(len(x))


def test_assets_are_correlated_but_not_the_same(returns):
    assert 0.5 < np.corrcoef(returns["BTCUSDT"], returns["ETHUSDT"])[0, 1] < 0.95
    assert 0.4 < np.corrcoef(returns["BTCUSDT"], returns["SOLUSDT"])[0, 1] < 0.9


def test_minutes_are_as_correlated_as_hours(market, returns):
    requests = (CandleRequest(s, Interval.MIN_1, NOW - 7 * 86_400_000, NOW, 10**6) for s in SYMBOLS)
    bitcoin, ether, _ = (np.diff(np.log(market.candles(r, NOW).close)) for r in requests)
    assert np.corrcoef(bitcoin, ether)[0, 1] > 0.5


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_volume_follows_volatility(candles, symbol):
    spread = np.log(candles[symbol].high / candles[symbol].low)
    assert np.corrcoef(np.log(spread), np.log(candles[symbol].volume))[0, 1] > 0.4


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_afternoons_are_livelier_than_nights(candles, symbol):
    each = candles[symbol]
    hour = each.start_time // 3_600_000 % 24
    spread = np.log(each.high / each.low)
    assert spread[hour == 15].mean() > 1.3 * spread[hour == 3].mean()
    assert each.turnover[hour == 15].mean() > 1.3 * each.turnover[hour == 3].mean()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_weekends_are_calmer(candles, symbol):
    each = candles[symbol]
    weekday = (each.start_time // 86_400_000 + 3) % 7
    spread = np.log(each.high / each.low)
    assert spread[weekday >= 5].mean() < 0.85 * spread[weekday < 5].mean()
    assert each.turnover[weekday >= 5].mean() < 0.85 * each.turnover[weekday < 5].mean()
