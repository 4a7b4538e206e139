"""Every recorded answer of the exchange is read, and every file of the folder is named here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash_pipeline.bybit import TICKER_SCHEMA, fetch_instruments
from flash_pipeline.bybit.answers import Envelope, read_envelope
from flash_pipeline.bybit.clock import TimeResult
from flash_pipeline.bybit.funding import FundingResult
from flash_pipeline.bybit.klines import MARK, TRADES
from flash_pipeline.bybit.rows import parse_candles
from flash_pipeline.errors import (
    CountryBlocked,
    ExchangeFault,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.market import CANDLE_SCHEMA, MARK_CANDLE_SCHEMA, Interval, TimeRange

HOUR = 3_600_000

KLINES = {
    "derived_kline_linear_BTCUSDT_60_final.json": (3, 96362.4),
    "derived_kline_linear_BTCUSDT_60_forming.json": (3, 96370.0),
    "docs_kline_inverse_BTCUSD_60.json": (3, 17055.5),
}
MARKS = {
    "docs_mark_kline.json": (1, 17131.64),
    "docs_index_kline.json": (2, 17163.07),
    "docs_premium_index_kline.json": (2, -0.000344),
}
INSTRUMENTS = {
    "docs_instruments_info_linear_BTCUSDT.json": ("BTCUSDT", "Trading", 0.1, 480),
    "docs_instruments_info_linear_prelaunch_BIOUSDT.json": ("BIOUSDT", "PreLaunch", 0.0001, 480),
    "jkorf_instruments_prelisting.json": ("PRE02ZROUSDT", "PreLaunch", 0.001, 480),
    "xchange_instruments_info_linear_BTCUSDT_2023.json": ("BTCUSDT", "Trading", 0.5, 480),
}
TICKERS = {
    "ccxt_tickers_linear_BTCUSDT_20241104.json": ("BTCUSDT", 68641.3),
    "docs_tickers_inverse_BTCUSD.json": ("BTCUSD", 120635.5),
    "jkorf_tickers.json": ("BTCUSD", 16597.0),
}
ERRORS = {
    "error_10000_server_timeout.json": ExchangeFault,
    "error_10001_legacy_v2.json": MalformedAnswer,
    "error_10001_symbol_with_blank_result.json": UnknownSymbol,
    "error_10006_full_123B.json": RateLimited,
    "error_10006_short.json": RateLimited,
    "error_10016.json": ExchangeFault,
    "xchange_error_10032.json": RequestRejected,
}
OTHER_ROUTES = [
    "docs_open_interest.json",
    "docs_orderbook_spot_BTCUSDT.json",
    "docs_recent_trade.json",
    "jkorf_open_interest.json",
    "jkorf_orderbook.json",
]
OTHER_RESULTS = [
    "hirokisan_open_interest_resultonly.json",
    "hirokisan_orderbook_resultonly.json",
    "hirokisan_public_trading_history_resultonly.json",
]
BY_THEMSELVES = [
    "docs_funding_history_ETHPERP.json",
    "docs_server_time.json",
    "hirokisan_funding_rate_history_resultonly.json",
    "hirokisan_instruments_info_inverse_resultonly.json",
    "hirokisan_kline_resultonly.json",
    "http_403_cloudfront_country_block.html",
]


@pytest.fixture
def read(recorded, answer) -> Callable[..., Any]:
    """Read a recorded answer as the client does."""

    def read(name: str, shape: type[Envelope[Any]], **context: Any) -> Any:
        content = (recorded / name).read_bytes()
        whole = answer(content=content, Content_Type="application/json")
        return read_envelope(whole, shape, **context)

    return read


def _load(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_every_file_of_the_folder_is_read_by_a_test(recorded):
    named = {*KLINES, *MARKS, *INSTRUMENTS, *TICKERS, *ERRORS}
    named |= {*OTHER_ROUTES, *OTHER_RESULTS, *BY_THEMSELVES, "README.md"}
    assert named == {path.name for path in recorded.iterdir()}


@pytest.mark.parametrize("name", sorted(KLINES))
def test_recorded_klines_become_candles(read, name):
    rows, close = KLINES[name]
    candles = parse_candles(read(name, TRADES.shape).result.rows, "BTCUSDT")
    assert candles.schema.equals(CANDLE_SCHEMA)
    assert (candles.num_rows, candles["close"].to_pylist()[-1]) == (rows, close)


@pytest.mark.parametrize("name", sorted(MARKS))
def test_recorded_klines_of_five_columns_become_candles_without_volume(read, name):
    rows, close = MARKS[name]
    candles = parse_candles(read(name, MARK.shape).result.rows, "BTCUSDT", MARK_CANDLE_SCHEMA)
    assert (candles.num_rows, candles["close"].to_pylist()[-1]) == (rows, close)


@pytest.mark.parametrize(("name", "closed"), [("final", 3), ("forming", 2)])
def test_the_forming_candle_of_the_record_is_left_out(recorded, scripted, name, closed):
    client, _ = scripted(_load(recorded, f"derived_kline_linear_BTCUSDT_60_{name}.json"))
    first = 1746277200000
    window = TimeRange(first, first + 3 * HOUR)
    assert client.candles("BTCUSDT", Interval.HOUR_1, window).candles.num_rows == closed


@pytest.mark.parametrize("name", sorted(INSTRUMENTS))
def test_recorded_instruments_become_specifications(recorded, scripted, name):
    symbol, status, tick_size, funding_interval = INSTRUMENTS[name]
    client, _ = scripted(_load(recorded, name))
    (row,) = fetch_instruments(client, [symbol]).to_pylist()
    assert (row["status"], row["tick_size"]) == (status, tick_size)
    assert row["funding_interval"] == funding_interval
    assert int(client.instrument(symbol)["launchTime"]) == row["launch_time"]


def test_the_recorded_list_of_instruments_is_read_to_its_end(recorded, scripted, envelope):
    result = _load(recorded, "hirokisan_instruments_info_inverse_resultonly.json")["LinearInverse"]
    client, script = scripted(envelope(result))
    symbols = [row["symbol"] for row in client.instruments()]
    assert len(symbols) == len(set(symbols)) == 214
    perpetuals = [symbol for symbol in symbols if symbol.endswith("USDT")]
    assert fetch_instruments(client, perpetuals).num_rows == len(perpetuals) > 150
    assert len(script.asked) == 2


@pytest.mark.parametrize("name", sorted(TICKERS))
def test_recorded_tickers_become_rows(recorded, scripted, name):
    symbol, last_price = TICKERS[name]
    body = _load(recorded, name)
    # The exchange sends these two as numbers; one of the records has them as strings.
    body |= {"retCode": int(body["retCode"]), "time": int(body["time"])}
    client, _ = scripted(body)
    table = client.tickers([symbol])
    assert table.schema.equals(TICKER_SCHEMA)
    assert table["last_price"].to_pylist() == [last_price]


def test_an_envelope_whose_code_is_a_string_is_malformed(read):
    with pytest.raises(MalformedAnswer, match="retCode is '0'"):
        read("ccxt_tickers_linear_BTCUSDT_20241104.json", Envelope[dict[str, Any]])


def test_recorded_funding_becomes_rates(read):
    (row,) = read("docs_funding_history_ETHPERP.json", Envelope[FundingResult]).result.rows
    assert (row.symbol, row.rate, row.time) == ("ETHPERP", 0.0001, 1672041600000)


def test_recorded_funding_of_several_settlements_becomes_a_table(recorded, scripted, envelope):
    result = _load(recorded, "hirokisan_funding_rate_history_resultonly.json")
    client, _ = scripted(envelope(result))
    table = client.funding("BTCUSDT", TimeRange(1679587200000, 1679702400001))
    assert table["rate"].to_pylist() == [0.0001, -0.0032142, -0.00086576, -0.00230379, 0.0001]


def test_the_recorded_clock_is_read(read, recorded, scripted):
    result = read("docs_server_time.json", Envelope[TimeResult]).result
    assert (result.second, result.nano) == ("1688639403", "1688639403423213947")
    client, _ = scripted(_load(recorded, "docs_server_time.json"))
    assert client.server_time() == 1688639403423


def test_recorded_daily_klines_become_candles(recorded):
    result = _load(recorded, "hirokisan_kline_resultonly.json")
    rows = [list(row.values()) for row in result["list"]]
    candles = parse_candles(rows, "BTCUSDT")
    assert candles.num_rows == len(rows) == 200
    assert candles["start_time"].to_pylist() == sorted(int(row[0]) for row in rows)


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_recorded_errors_are_errors_of_the_tree(read, name):
    with pytest.raises(ERRORS[name]) as caught:
        read(name, TRADES.shape, symbol="BTCUSDT")
    assert type(caught.value) is ERRORS[name]
    assert caught.value.symbol == "BTCUSDT"


def test_the_recorded_page_of_a_country_block_is_one(recorded, answer):
    page = (recorded / "http_403_cloudfront_country_block.html").read_bytes()
    with pytest.raises(CountryBlocked):
        read_envelope(answer(content=page, status=403, Content_Type="text/html"), TRADES.shape)


@pytest.mark.parametrize("name", OTHER_ROUTES)
def test_recorded_answers_of_other_routes_are_envelopes_and_no_klines(read, name):
    assert read(name, Envelope[dict[str, Any]]).code == 0
    assert read(name, Envelope[dict[str, Any]]).result
    if "list" in read(name, Envelope[dict[str, Any]]).result:
        with pytest.raises(MalformedAnswer, match=r"result\.list\.0"):
            read(name, TRADES.shape)


@pytest.mark.parametrize("name", OTHER_RESULTS)
def test_recorded_results_of_other_routes_fit_into_an_envelope(recorded, answer, envelope, name):
    whole = answer(envelope(_load(recorded, name)), Content_Type="application/json")
    assert read_envelope(whole, Envelope[dict[str, Any]]).result
