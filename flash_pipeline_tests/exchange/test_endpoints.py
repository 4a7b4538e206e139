from decimal import Decimal

import pytest

HOUR = 3_600_000


def _starts(result) -> list[int]:
    return [int(row[0]) for row in result["list"]]


def test_time_is_the_exchanges_clock(ask, now):
    assert ask("time") == {"timeSecond": str(now // 1000), "timeNano": str(now * 1_000_000)}


def test_envelope_has_the_recorded_shape(get, now):
    body = get("/v5/market/time").json()
    assert list(body) == ["retCode", "retMsg", "result", "retExtInfo", "time"]
    assert (body["retCode"], body["retMsg"], body["retExtInfo"]) == (0, "OK", {})
    assert body["time"] == now


@pytest.mark.parametrize("path", ["/v5/market/time", "/v5/market/kline", "/nowhere"])
def test_every_answer_says_that_the_market_is_simulated(get, path):
    assert get(path).headers["X-Flash-Pipeline-Market"] == "simulated"


def test_unknown_route_is_404_and_still_an_envelope(get):
    response = get("/v5/market/klines")
    assert (response.status_code, response.json()["retCode"]) == (404, 10017)
    assert "/v5/market/klines" in response.json()["retMsg"]


def test_kline_rows_are_seven_strings(ask):
    result = ask("kline", symbol="BTCUSDT", interval="60")
    assert list(result) == ["symbol", "category", "list"]
    assert (result["symbol"], result["category"]) == ("BTCUSDT", "linear")
    assert all(len(row) == 7 for row in result["list"])
    assert all(isinstance(value, str) for row in result["list"] for value in row)


def test_kline_gives_200_rows_by_default_newest_first(ask, now):
    starts = _starts(ask("kline", symbol="BTCUSDT", interval="60"))
    newest = now // HOUR * HOUR
    assert starts == [newest - n * HOUR for n in range(200)]


def test_kline_includes_both_ends(ask, now):
    end = now // HOUR * HOUR - 24 * HOUR
    result = ask("kline", symbol="BTCUSDT", interval="60", start=end - 2 * HOUR, end=end)
    assert _starts(result) == [end, end - HOUR, end - 2 * HOUR]


def test_kline_of_an_unaligned_start_begins_with_the_candle_that_contains_it(ask, now):
    end = now // HOUR * HOUR - 24 * HOUR
    result = ask("kline", symbol="BTCUSDT", interval="60", start=end - 1, end=end)
    assert _starts(result) == [end, end - HOUR]


def test_kline_of_a_range_wider_than_the_limit_gives_its_newest_rows(ask, now):
    end = now // HOUR * HOUR - 24 * HOUR
    wide = {"symbol": "BTCUSDT", "interval": "60", "start": end - 5000 * HOUR, "end": end}
    starts = _starts(ask("kline", limit=1000, **wide))
    assert (len(starts), starts[0]) == (1000, end)
    assert _starts(ask("kline", limit=3, **wide)) == starts[:3]


def test_kline_ends_with_the_forming_candle(ask, now):
    (newest,) = ask("kline", symbol="BTCUSDT", interval="60", limit=1)["list"]
    assert int(newest[0]) == now // HOUR * HOUR


def test_kline_never_serves_what_starts_after_the_clock(ask, now):
    result = ask("kline", symbol="BTCUSDT", interval="60", start=now, end=now + 9 * HOUR)
    assert _starts(result) == [now // HOUR * HOUR]
    future = ask("kline", symbol="BTCUSDT", interval="60", start=now + HOUR, end=now + 9 * HOUR)
    assert future["list"] == []


def test_kline_before_the_listing_is_empty_and_names_no_symbol(ask, market):
    launch = market.instruments["ASTERUSDT"].launch_ms
    result = ask("kline", symbol="ASTERUSDT", interval="60", start=0, end=launch - 1)
    assert result == {"category": "linear", "list": []}


def test_kline_across_the_listing_begins_with_it(ask, market):
    launch = market.instruments["ASTERUSDT"].launch_ms
    result = ask("kline", symbol="ASTERUSDT", interval="60", start=0, end=launch + HOUR)
    assert _starts(result) == [launch + HOUR, launch]


def test_last_candle_is_the_same_whichever_end_asked_for_it(ask, now):
    by_end = ask("kline", symbol="BTCUSDT", interval="60", end=now, limit=1)
    assert by_end == ask("kline", symbol="BTCUSDT", interval="60", limit=1)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"interval": "60"}, "symbol is required"),
        ({"symbol": "", "interval": "60"}, "symbol is required"),
        ({"symbol": "NOPEUSDT", "interval": "60"}, "symbol 'NOPEUSDT'"),
        ({"symbol": "btcusdt", "interval": "60"}, "symbol 'btcusdt'"),
        ({"symbol": "BTCUSDT"}, "interval is required"),
        ({"symbol": "BTCUSDT", "interval": "7"}, "interval '7'"),
        ({"symbol": "BTCUSDT", "interval": "W"}, "interval 'W'"),
        ({"symbol": "BTCUSDT", "interval": "60", "limit": "0"}, "limit 0"),
        ({"symbol": "BTCUSDT", "interval": "60", "limit": "1001"}, "limit 1001"),
        ({"symbol": "BTCUSDT", "interval": "60", "limit": "-5"}, "limit '-5'"),
        ({"symbol": "BTCUSDT", "interval": "60", "limit": "1e2"}, "limit '1e2'"),
        ({"symbol": "BTCUSDT", "interval": "60", "start": "yesterday"}, "start 'yesterday'"),
        ({"symbol": "BTCUSDT", "interval": "60", "end": "9" * 20}, "end '999"),
        ({"symbol": "BTCUSDT", "interval": "60", "start": 2, "end": 1}, "start 2 is after end 1"),
        ({"symbol": "BTCUSDT", "interval": "60", "category": "inverse"}, "category 'inverse'"),
        ({"symbol": ["BTCUSDT", "ETHUSDT"], "interval": "60"}, "symbol is given more than once"),
    ],
)
def test_kline_refuses_a_bad_parameter_by_name(refusal, parameters, named):
    assert named in refusal("kline", **parameters)


def test_instruments_have_the_documented_fields(ask):
    (bitcoin,) = ask("instruments-info", category="linear", symbol="BTCUSDT")["list"]
    assert (bitcoin["baseCoin"], bitcoin["quoteCoin"]) == ("BTC", "USDT")
    assert bitcoin["launchTime"] == "1585130400000"
    assert bitcoin["fundingInterval"] == 480
    assert bitcoin["priceFilter"]["tickSize"] == "0.1"
    assert bitcoin["lotSizeFilter"]["qtyStep"] == "0.001"
    assert bitcoin["status"] == "Trading"


def test_instruments_are_paged_by_cursor_without_loss_or_repeat(ask, market):
    seen, cursor, pages = [], "", 0
    while pages == 0 or cursor:
        page = ask("instruments-info", category="linear", limit=5, cursor=cursor)
        seen += [instrument["symbol"] for instrument in page["list"]]
        cursor, pages = page["nextPageCursor"], pages + 1
    assert seen == sorted(market.instruments)
    assert pages == -(-len(seen) // 5)


def test_a_page_that_is_exactly_full_is_the_last(ask, market):
    page = ask("instruments-info", category="linear", limit=len(market.instruments))
    assert page["nextPageCursor"] == ""


def test_no_instrument_has_another_status_than_trading(ask):
    assert ask("instruments-info", category="linear", status="Closed")["list"] == []
    assert len(ask("instruments-info", category="linear", status="Trading")["list"]) > 10


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({}, "category is required"),
        ({"category": "spot"}, "category 'spot'"),
        ({"category": "linear", "symbol": "NOPEUSDT"}, "symbol 'NOPEUSDT'"),
        ({"category": "linear", "limit": "1001"}, "limit 1001"),
        ({"category": "linear", "cursor": "page2"}, "cursor 'page2'"),
        ({"category": "linear", "status": "Asleep"}, "status 'Asleep'"),
    ],
)
def test_instruments_refuse_a_bad_parameter_by_name(refusal, parameters, named):
    assert named in refusal("instruments-info", **parameters)


def test_funding_is_newest_first_on_the_symbols_own_interval(ask, now):
    rows = ask("funding/history", category="linear", symbol="BTCUSDT")["list"]
    times = [int(row["fundingRateTimestamp"]) for row in rows]
    assert times == [now // (8 * HOUR) * 8 * HOUR - n * 8 * HOUR for n in range(200)]
    (first, second) = ask("funding/history", category="linear", symbol="SUIUSDT", limit=2)["list"]
    assert int(first["fundingRateTimestamp"]) - int(second["fundingRateTimestamp"]) == 4 * HOUR


def test_funding_rows_have_the_recorded_shape(ask):
    (row,) = ask("funding/history", category="linear", symbol="BTCUSDT", limit=1)["list"]
    assert list(row) == ["symbol", "fundingRate", "fundingRateTimestamp"]
    assert all(isinstance(value, str) for value in row.values())


def test_funding_includes_both_ends_and_pages_by_end_time(ask, now):
    end = now // (8 * HOUR) * 8 * HOUR
    asked = {"category": "linear", "symbol": "BTCUSDT"}
    both = ask("funding/history", startTime=end - 8 * HOUR, endTime=end, **asked)["list"]
    assert len(both) == 2
    older = ask("funding/history", endTime=end - 1, limit=1, **asked)["list"]
    assert older == both[1:]


def test_funding_refuses_a_start_time_alone(refusal):
    assert "startTime" in refusal(
        "funding/history", category="linear", symbol="BTCUSDT", startTime=1
    )


def test_funding_refuses_more_than_200_rows(refusal):
    assert "limit 201" in refusal("funding/history", category="linear", symbol="BTCUSDT", limit=201)


def test_order_book_has_25_levels_by_default_around_the_last_price(ask):
    book = ask("orderbook", category="linear", symbol="BTCUSDT")
    assert list(book) == ["s", "b", "a", "ts", "u", "seq", "cts"]
    assert (len(book["b"]), len(book["a"])) == (25, 25)
    (row,) = ask("kline", symbol="BTCUSDT", interval="1", limit=1)["list"]
    for best in (book["b"][0][0], book["a"][0][0]):  # the candle's minute is almost over
        assert abs(Decimal(best) / Decimal(row[4]) - 1) < Decimal("0.005")


def test_order_book_is_the_same_at_the_same_instant(ask):
    asked = {"category": "linear", "symbol": "ETHUSDT", "limit": 1000}
    assert ask("orderbook", **asked) == ask("orderbook", **asked)


def test_order_book_refuses_too_great_a_depth(refusal):
    assert "limit 1001" in refusal("orderbook", category="linear", symbol="BTCUSDT", limit=1001)
