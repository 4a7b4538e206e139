"""The routes that a wide panel needs: instruments by page and status, tickers, mark prices."""

import json
from pathlib import Path

import pytest
import requests

from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.exchange.simulation.generated import listings
from flash_pipeline.market import parse_instant

HOUR = 3_600_000
NOW = parse_instant("2024-06-30T23:30:00Z")
INFO = {"category": "linear"}


@pytest.fixture(scope="module")
def wide():
    return SimulatedMarket(7, listings(7, 120))


@pytest.fixture(scope="module")
def ask_wide(wide):
    with (
        embedded_exchange(market=wide, clock=Clock(NOW, speed=0)) as url,
        requests.Session() as session,
    ):

        def ask(path, **parameters):
            answer = session.get(f"{url}/v5/market/{path}", params=parameters, timeout=10)
            assert answer.json()["retCode"] == 0, answer.text
            return answer.json()["result"]

        yield ask


def _symbols(result):
    return [row["symbol"] for row in result["list"]]


def test_statuses_divide_the_instruments(ask_wide, wide):
    by_status = {
        status: _symbols(ask_wide("instruments-info", status=status, **INFO))
        for status in ("PreLaunch", "Trading", "Delivering", "Closed")
    }
    assert by_status["Delivering"] == []
    assert all(by_status[status] for status in ("PreLaunch", "Trading", "Closed"))
    told = sorted(symbol for symbols in by_status.values() for symbol in symbols)
    assert told == list(wide.instruments)


def test_those_that_trade_are_given_by_default(ask_wide):
    default = _symbols(ask_wide("instruments-info", **INFO))
    assert default == _symbols(ask_wide("instruments-info", status="Trading", **INFO))


def test_a_closed_instrument_says_when_it_was_delivered(ask_wide, wide):
    closed = ask_wide("instruments-info", status="Closed", **INFO)["list"][0]
    assert closed["status"] == "Closed"
    assert closed["deliveryTime"] == str(wide.instruments[closed["symbol"]].delist_ms)


def test_an_unlaunched_instrument_is_prelisted(ask_wide):
    early = ask_wide("instruments-info", status="PreLaunch", **INFO)["list"][0]
    assert (early["status"], early["isPreListing"]) == ("PreLaunch", True)
    assert int(early["launchTime"]) > NOW


def test_the_cursor_is_taken_back_as_it_is_and_unescaped(ask_wide):
    first = ask_wide("instruments-info", limit=5, **INFO)
    cursor = first["nextPageCursor"]
    assert cursor.startswith("first%3D1000PEPEUSDT%26last%3D")
    second = ask_wide("instruments-info", limit=5, cursor=cursor, **INFO)
    unescaped = cursor.replace("%3D", "=").replace("%26", "&")
    assert ask_wide("instruments-info", limit=5, cursor=unescaped, **INFO) == second
    assert not set(_symbols(first)) & set(_symbols(second))


def test_a_delisted_symbol_keeps_its_candles_up_to_the_last_day(ask_wide, wide):
    closed = ask_wide("instruments-info", status="Closed", **INFO)["list"][0]["symbol"]
    rows = ask_wide("kline", symbol=closed, interval="60", limit=3)["list"]
    end = wide.instruments[closed].delist_ms
    assert [int(row[0]) for row in rows] == [end - HOUR, end - 2 * HOUR, end - 3 * HOUR]
    assert all(float(row[5]) > 0 for row in rows)


def test_tickers_tell_all_that_trade_in_one_answer(ask_wide):
    tickers = ask_wide("tickers", **INFO)
    assert _symbols(tickers) == _symbols(ask_wide("instruments-info", **INFO))


def test_a_ticker_has_the_recorded_fields_all_of_them_strings(ask_wide):
    recorded = Path(__file__).parents[3] / "shared/bybit/recorded"
    file = recorded / "ccxt_tickers_linear_BTCUSDT_20241104.json"
    if not file.is_file():
        pytest.skip("no recorded answers beside the project")
    (wanted,) = json.loads(file.read_text())["result"]["list"]
    (ticker,) = ask_wide("tickers", symbol="BTCUSDT", **INFO)["list"]
    assert set(ticker) == set(wanted)
    assert {name for name, value in ticker.items() if value == ""} == {
        name for name, value in wanted.items() if value == ""
    }
    assert all(isinstance(value, str) for value in ticker.values())


def test_a_ticker_agrees_with_the_candles(ask_wide):
    (ticker,) = ask_wide("tickers", symbol="ETHUSDT", **INFO)["list"]
    rows = ask_wide("kline", symbol="ETHUSDT", interval="60", limit=25)["list"]
    assert ticker["lastPrice"] == rows[0][4]
    assert ticker["prevPrice24h"] == rows[-1][1]
    assert float(ticker["highPrice24h"]) == max(float(row[2]) for row in rows)
    assert float(ticker["bid1Price"]) < float(ticker["ask1Price"])
    assert int(ticker["nextFundingTime"]) == NOW // (8 * HOUR) * 8 * HOUR + 8 * HOUR


def test_mark_rows_are_five_strings_newest_first(ask_wide):
    result = ask_wide("mark-price-kline", symbol="BTCUSDT", interval="60", limit=3)
    assert list(result) == ["symbol", "category", "list"]
    assert all(len(row) == 5 for row in result["list"])
    last = ask_wide("kline", symbol="BTCUSDT", interval="60", limit=3)["list"]
    assert [row[0] for row in result["list"]] == [row[0] for row in last]
    for mark, row in zip(result["list"], last, strict=True):
        assert float(mark[4]) == pytest.approx(float(row[4]), rel=4e-4)
