"""The client against the embedded exchange, which serves Yahoo's endpoint as well."""

import pytest

from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import Interval, TimeRange, iso_utc, parse_instant
from flash_pipeline.yahoo import YahooClient

NOW = "2024-06-04T16:40:00"
HOUR, DAY = Interval.HOUR_1, Interval.DAY_1


@pytest.fixture(scope="module")
def client():
    clock = Clock(parse_instant(NOW), speed=0)
    tickers = {"AAPL": "AAPL", "SPX": "^GSPC", "BTCUSD": "BTC-USD"}
    with embedded_exchange(clock=clock) as url, YahooClient([url], tickers) as client:
        yield client


def candles(client, symbol, interval, first="2024-05-20", end="2024-06-05"):
    window = TimeRange(parse_instant(first), parse_instant(end))
    return client.candles(symbol, interval, window).candles.to_pylist()


def test_the_clock_is_the_exchanges(client):
    assert iso_utc(client.now()) == "2024-06-04T16:40Z"
    assert client.is_synthetic()


@pytest.mark.parametrize("symbol", ["AAPL", "SPX"])
def test_shares_have_candles_of_their_sessions_only(client, symbol):
    hours = {iso_utc(row["start_time"])[11:16] for row in candles(client, symbol, HOUR)}
    assert hours == {f"{hour}:00" for hour in range(14, 21)}


def test_coins_have_candles_around_the_clock(client):
    hours = {iso_utc(row["start_time"])[11:16] for row in candles(client, "BTCUSD", HOUR)}
    assert len(hours) == 24


def test_volumes_of_coins_are_in_coins_and_turnovers_in_dollars(client):
    for row in candles(client, "BTCUSD", HOUR)[:50]:
        assert row["low"] <= row["turnover"] / row["volume"] <= row["high"]


@pytest.mark.parametrize(
    ("symbol", "interval", "newest"),
    [
        ("AAPL", HOUR, "2024-06-04T15:00Z"),
        ("BTCUSD", HOUR, "2024-06-04T15:00Z"),
        ("AAPL", DAY, "2024-06-03T00:00Z"),
        ("BTCUSD", DAY, "2024-06-03T00:00Z"),
    ],
)
def test_the_newest_candle_is_the_last_that_closed(client, symbol, interval, newest):
    assert iso_utc(candles(client, symbol, interval)[-1]["start_time"]) == newest


def test_no_candle_changes_with_the_window_that_it_is_asked_in(client):
    whole = candles(client, "AAPL", HOUR)
    parts = [
        row
        for day in range(20, 32)
        for row in candles(client, "AAPL", HOUR, f"2024-05-{day}", _next(day))
    ]
    assert parts == [row for row in whole if row["start_time"] < parse_instant("2024-06-01")]


def _next(day):
    return f"2024-05-{day + 1}" if day < 31 else "2024-06-01"
