from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import requests

from flash_pipeline.exchange import Clock, ReplayedMarket, SimulatedMarket, embedded_exchange
from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.exchange.yahoo import YahooChart
from flash_pipeline.market import Interval, parse_instant

HOUR = 3_600_000
NOW = parse_instant("2024-06-28T18:47:12Z")  # a Friday, 14:47 in New York
SUNDAY = parse_instant("2024-06-30T12:00:00Z")


@pytest.fixture(scope="module")
def charts():
    return YahooChart(SimulatedMarket(seed=7))


def _result(charts, ticker, now=NOW, **parameters):
    answer = charts.answer(ticker, parameters, now)
    assert answer.status == 200, answer.body
    chart = answer.json()["chart"]
    assert chart["error"] is None
    (result,) = chart["result"]
    return result


def _refusal(charts, ticker, now=NOW, **parameters):
    answer = charts.answer(ticker, parameters, now)
    chart = answer.json()["chart"]
    assert chart["result"] is None
    return answer.status, chart["error"]["code"], chart["error"]["description"]


def _moments(result):
    return [datetime.fromtimestamp(t, UTC).strftime("%m-%d %H:%M") for t in result["timestamp"]]


def _span(first, end):
    return {
        "period1": str(parse_instant(first) // 1000),
        "period2": str(parse_instant(end) // 1000),
    }


def test_hourly_bars_of_a_stock_are_stamped_within_the_hours_of_new_york(charts):
    result = _result(charts, "SPY", interval="1h", **_span("2024-06-27", "2024-06-28"))
    assert _moments(result) == [f"06-27 {hour}:30" for hour in range(13, 20)]


def test_stamps_follow_the_change_of_clocks(charts):
    result = _result(charts, "SPY", interval="1d", **_span("2024-03-08", "2024-03-12"))
    assert _moments(result) == ["03-08 14:30", "03-11 13:30"]


def test_the_hour_under_way_is_followed_by_the_newest_trade(charts):
    result = _result(charts, "SPY", interval="1h", range="1d")
    assert _moments(result)[-2:] == ["06-28 18:30", "06-28 18:47"]
    (quote,) = result["indicators"]["quote"]
    assert quote["volume"][-1] == 0
    assert {quote[name][-1] for name in ("open", "high", "low", "close")} == {quote["close"][-2]}


def test_the_current_day_is_stamped_with_the_newest_trade(charts):
    result = _result(charts, "SPY", interval="1d", range="5d")
    assert _moments(result)[-2:] == ["06-27 13:30", "06-28 18:47"]
    assert result["timestamp"][-1] == result["meta"]["regularMarketTime"] == NOW // 1000


def test_after_the_close_the_newest_trade_is_that_of_the_close(charts):
    hourly = _result(charts, "SPY", now=SUNDAY, interval="1h", range="5d")
    assert _moments(hourly)[-2:] == ["06-28 19:30", "06-28 20:00"]
    daily = _result(charts, "SPY", now=SUNDAY, interval="1d", range="5d")
    assert _moments(daily)[-1] == "06-28 20:00"


def test_a_past_range_has_no_newest_trade(charts):
    result = _result(charts, "BTC-USD", interval="1h", **_span("2024-06-01", "2024-06-02"))
    assert _moments(result) == [f"06-01 {hour:02d}:00" for hour in range(24)]


def test_a_weekend_has_no_bars_and_no_timestamps(charts):
    result = _result(charts, "SPY", interval="1h", **_span("2024-06-22", "2024-06-23"))
    assert "timestamp" not in result
    assert result["indicators"] == {"quote": [{}]}


def test_coins_have_the_markets_prices_in_single_precision(charts):
    market = SimulatedMarket(seed=7)
    first = parse_instant("2024-06-01")
    request = CandleRequest("BTCUSDT", Interval.HOUR_1, first, first + 24 * HOUR - 1, 24)
    candles = market.candles(request, NOW)
    result = _result(charts, "BTC-USD", interval="1h", **_span("2024-06-01", "2024-06-02"))
    (quote,) = result["indicators"]["quote"]
    closes = [None if x is None else np.float32(x) for x in quote["close"]]
    for got, wanted in zip(closes, candles.close.astype(np.float32), strict=True):
        assert got is None or got == wanted
    assert next(x for x in quote["volume"] if x is not None) == round(candles.turnover[0])


def test_a_stocks_day_is_made_of_its_hours(charts):
    span = _span("2024-06-27", "2024-06-28")
    (hours,) = _result(charts, "AAPL", interval="1h", **span)["indicators"]["quote"]
    (day,) = _result(charts, "AAPL", interval="1d", **span)["indicators"]["quote"]
    assert None not in hours["high"]
    assert day["high"] == [max(hours["high"])]
    assert day["open"] == hours["open"][:1]
    assert day["close"] == hours["close"][-1:]
    assert day["volume"] == [sum(hours["volume"])]


def test_some_bars_are_null_in_every_field_and_always_the_same_ones(charts):
    def lost(span):
        result = _result(charts, "ETH-USD", interval="1h", **span)
        (quote,) = result["indicators"]["quote"]
        rows = zip(result["timestamp"], *quote.values(), strict=True)
        gone = [row for row in rows if None in row]
        assert all(set(row[1:]) == {None} for row in gone)
        return {row[0] for row in gone}

    month, week = (
        lost(_span("2024-05-01", "2024-06-01")),
        lost(_span("2024-05-01", "2024-05-08")),
    )
    assert 0 < len(month) < 30
    assert week <= month


def test_only_daily_bars_are_adjusted_for_dividends(charts):
    assert list(_result(charts, "SPY", interval="1h")["indicators"]) == ["quote"]
    indicators = _result(charts, "SPY", interval="1d", range="1y")["indicators"]
    (quote,), (adjusted,) = indicators["quote"], indicators["adjclose"]
    assert adjusted["adjclose"][0] < quote["close"][0]
    assert adjusted["adjclose"][-1] == quote["close"][-1]


def test_meta_tells_the_zone_and_the_regular_hours(charts):
    meta = _result(charts, "^GSPC", interval="1d")["meta"]
    assert (meta["symbol"], meta["currency"], meta["instrumentType"]) == ("^GSPC", "USD", "INDEX")
    assert (meta["exchangeTimezoneName"], meta["gmtoffset"]) == ("America/New_York", -14400)
    assert meta["dataGranularity"] == "1d"
    regular = meta["currentTradingPeriod"]["regular"]
    assert regular == {
        "timezone": "EDT",
        "start": parse_instant("2024-06-28T13:30Z") // 1000,
        "end": parse_instant("2024-06-28T20:00Z") // 1000,
        "gmtoffset": -14400,
    }


def test_coins_are_charted_in_utc(charts):
    meta = _result(charts, "BTC-USD", interval="1d")["meta"]
    assert (meta["exchangeTimezoneName"], meta["gmtoffset"]) == ("UTC", 0)


def test_an_unknown_ticker_is_not_found(charts):
    status, code, description = _refusal(charts, "NOPE-USD")
    assert (status, code) == (404, "Not Found")
    assert description == "No data found, symbol may be delisted"


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [
        ({"interval": "5m"}, 400, "interval=5m"),
        ({"range": "7w"}, 400, "range=7w"),
        ({"period1": "soon"}, 400, "period1=soon"),
        ({"period1": "2", "period2": "1"}, 400, "start date"),
        ({"period1": "1", "period2": "9"}, 400, "Data doesn't exist for startDate = 1"),
        ({"period1": "1", "period2": "9", "interval": "1h"}, 422, "within the last 730 days"),
    ],
)
def test_a_bad_parameter_is_refused_by_name(charts, parameters, status, named):
    got, _, description = _refusal(charts, "BTC-USD", **parameters)
    assert got == status
    assert named in description


def test_the_newest_bar_never_knows_more_than_the_clock(charts):
    later = NOW + 3 * HOUR
    earlier = _result(charts, "SPY", interval="1h", **_span("2024-06-28", "2024-06-29"))
    whole = _result(charts, "SPY", now=later, interval="1h", **_span("2024-06-28", "2024-06-29"))
    (before,), (after,) = earlier["indicators"]["quote"], whole["indicators"]["quote"]
    assert before["close"][:5] == after["close"][:5]
    assert before["volume"][5] < after["volume"][5]


def test_a_replay_charts_its_coins_and_makes_up_no_stocks(tmp_path, recorded):
    pq.write_table(recorded, tmp_path / "BTCUSDT_60.parquet")
    charts = YahooChart(ReplayedMarket(tmp_path))
    now = parse_instant("2024-06-01T12:00Z")
    result = _result(charts, "BTC-USD", now=now, interval="1h", range="1d")
    assert _moments(result)[0] == "06-01 00:00"
    assert _refusal(charts, "SPY", now=now)[0] == 404


def test_the_server_serves_it_and_says_that_it_is_simulated():
    with embedded_exchange(clock=Clock(NOW, speed=0)) as url:
        path = "/v8/finance/chart/%5EGSPC"
        answer = requests.get(url + path, params={"interval": "1d", "range": "5d"}, timeout=10)
        missing = requests.get(url + "/v8/finance/chart/NOPE", timeout=10)
    assert answer.headers["X-Flash-Pipeline-Market"] == "simulated"
    assert answer.json()["chart"]["result"][0]["meta"]["symbol"] == "^GSPC"
    assert missing.status_code == 404
