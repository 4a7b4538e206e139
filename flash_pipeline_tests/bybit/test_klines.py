import pytest

from flash_pipeline.bybit import MAX_CANDLES
from flash_pipeline.errors import InconsistentAnswer, InvalidSymbol, MalformedAnswer
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    MARK_CANDLE_SCHEMA,
    Interval,
    TimeRange,
    parse_instant,
)

HOUR = 3_600_000
NOON = parse_instant("2025-05-03T12:00Z")  # the envelope's time is four hours later
WINDOW = TimeRange(NOON, NOON + 3 * HOUR)


def _rows(*starts: int, columns: int = 7) -> list[list[str]]:
    row = ["1", "2", "0.5", "1.5", "10", "15"]
    return [[str(start), *row[: columns - 1]] for start in starts]


def _ask(client, window=WINDOW, interval=Interval.HOUR_1, symbol="BTCUSDT"):
    return client.candles(symbol, interval, window)


def _starts(answer) -> list[int]:
    return answer.candles["start_time"].to_pylist()


def test_a_window_is_asked_for_with_both_ends_inclusive(scripted, envelope):
    client, script = scripted(envelope({"list": []}))
    _ask(client)
    assert script.asked[0].path == "/v5/market/kline"
    assert script.asked[0].query == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "interval": "60",
        "start": str(NOON),
        "end": str(NOON + 2 * HOUR),
        "limit": "3",
    }


@pytest.mark.parametrize("interval", Interval)
def test_every_interval_is_asked_for_by_the_exchanges_code(scripted, envelope, interval):
    client, script = scripted(envelope({"list": []}))
    _ask(client, TimeRange(0, 10 * interval.milliseconds), interval)
    assert script.asked[0].query["interval"] == interval.value
    assert script.asked[0].query["limit"] == "10"


def test_rows_come_newest_first_and_are_turned_round(scripted, envelope):
    rows = _rows(NOON + 2 * HOUR, NOON + HOUR, NOON)
    client, _ = scripted(envelope({"symbol": "BTCUSDT", "category": "linear", "list": rows}))
    answer = _ask(client)
    assert _starts(answer) == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert answer.candles.schema.equals(CANDLE_SCHEMA, check_metadata=True)


def test_mark_klines_have_five_columns_and_a_route_of_their_own(scripted, envelope):
    client, script = scripted(envelope({"list": _rows(NOON, columns=5)}))
    answer = client.mark_klines("BTCUSDT", Interval.HOUR_1, WINDOW)
    assert script.asked[0].path == "/v5/market/mark-price-kline"
    assert answer.candles.schema.equals(MARK_CANDLE_SCHEMA, check_metadata=True)
    assert answer.candles.num_rows == 1


@pytest.mark.parametrize("columns", [5, 6, 8])
def test_a_row_of_another_length_is_malformed_with_the_symbol(scripted, envelope, columns):
    row = [*_rows(NOON)[0], "0"][:columns]
    client, _ = scripted(envelope({"list": [*_rows(NOON + HOUR), row]}))
    with pytest.raises(MalformedAnswer, match=r"result\.list\.1") as caught:
        _ask(client)
    assert caught.value.symbol == "BTCUSDT"


@pytest.mark.parametrize("row", [{}, None, "1746284400000", 7, [["1"] * 7], [1, 2, 3, 4, 5, 6, 7]])
def test_a_row_of_another_form_is_malformed(scripted, envelope, row):
    client, _ = scripted(envelope({"list": [row]}))
    with pytest.raises(MalformedAnswer, match=r"result\.list\.0"):
        _ask(client)


@pytest.mark.parametrize("result", [{"list": None}, {"list": {}}, {"list": "[]"}, {"symbol": 7}])
def test_a_result_of_another_shape_is_malformed(scripted, envelope, result):
    client, _ = scripted(envelope(result))
    with pytest.raises(MalformedAnswer, match="result"):
        _ask(client)


@pytest.mark.parametrize("result", [{"category": "linear"}, {"list": []}, {"symbol": ""}])
def test_before_a_listing_there_are_no_candles_and_perhaps_no_symbol(scripted, envelope, result):
    client, script = scripted(envelope(result))
    answer = _ask(client)
    assert answer.candles.equals(CANDLE_SCHEMA.empty_table())
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "named", [{"symbol": "ETHUSDT"}, {"symbol": "btcusdt"}, {"category": "inverse"}]
)
def test_an_answer_about_something_else_is_asked_for_again(scripted, envelope, named):
    right = envelope({"symbol": "BTCUSDT", "list": _rows(NOON)})
    client, script = scripted(envelope({**named, "list": _rows(NOON)}), right)
    assert _starts(_ask(client)) == [NOON]
    assert len(script.asked) == 2


def test_an_answer_that_stays_about_something_else_is_inconsistent(scripted, envelope):
    client, _ = scripted(envelope({"symbol": "ETHUSDT", "list": _rows(NOON)}))
    with pytest.raises(InconsistentAnswer, match="asked for BTCUSDT, answered 'ETHUSDT'") as caught:
        _ask(client)
    assert caught.value.symbol == "BTCUSDT"


def test_an_unaligned_window_is_rounded_up_to_the_candles_that_open_in_it(scripted, envelope):
    client, script = scripted(envelope({"list": _rows(NOON + HOUR)}))
    assert _starts(_ask(client, TimeRange(NOON + 1, NOON + HOUR + 1))) == [NOON + HOUR]
    asked = script.asked[0].query
    assert (asked["start"], asked["end"]) == (str(NOON + HOUR), str(NOON + HOUR))


def test_the_candle_that_contains_an_unaligned_start_is_left_out_quietly(scripted, envelope):
    client, script = scripted(envelope({"list": _rows(NOON + HOUR, NOON)}))
    assert _starts(_ask(client, TimeRange(NOON + 1, NOON + 2 * HOUR))) == [NOON + HOUR]
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "start",
    [NOON - HOUR, NOON + 3 * HOUR, NOON + 1, NOON - 500 * HOUR],
    ids=["one before an aligned start", "one after", "off the grid", "far before"],
)
def test_a_candle_that_was_not_asked_for_is_inconsistent(scripted, envelope, start):
    client, _ = scripted(envelope({"list": _rows(NOON, start)}))
    with pytest.raises(
        InconsistentAnswer, match=f"BTCUSDT: candle {start} is off the 60-minute grid or outside"
    ):
        _ask(client)


def test_two_candles_before_an_unaligned_start_are_inconsistent(scripted, envelope):
    client, _ = scripted(envelope({"list": _rows(NOON, NOON - HOUR)}))
    with pytest.raises(InconsistentAnswer, match=f"candle {NOON - HOUR} is off"):
        _ask(client, TimeRange(NOON + 1, NOON + 2 * HOUR))


def test_two_versions_of_one_candle_are_asked_for_again(scripted, envelope):
    changed = [*_rows(NOON)[0][:4], "1.6", "10", "15"]
    torn = envelope({"list": [*_rows(NOON), changed]})
    client, script = scripted(torn, torn, envelope({"list": [changed, changed]}))
    assert _ask(client).candles["close"].to_pylist() == [1.6]
    assert len(script.asked) == 3


@pytest.mark.parametrize("candles", [0, MAX_CANDLES + 1])
def test_a_window_that_no_answer_can_fill_is_refused_unasked(scripted, envelope, candles):
    client, script = scripted(envelope())
    with pytest.raises(ValueError, match=f"{candles} candles asked at once: expected 1 to 1000"):
        _ask(client, TimeRange(NOON, NOON + candles * HOUR))
    assert script.asked == []


@pytest.mark.parametrize("symbol", ["btcusdt", "../../etc", "BTC&limit=1"])
def test_a_malformed_symbol_never_reaches_a_url(scripted, envelope, symbol):
    client, script = scripted(envelope())
    for ask in (
        lambda: _ask(client, symbol=symbol),
        lambda: client.mark_klines(symbol, Interval.HOUR_1, WINDOW),
        lambda: client.funding(symbol, WINDOW),
        lambda: client.instrument(symbol),
        lambda: client.instruments([symbol, "BTCUSDT"]),
        lambda: client.tickers([symbol]),
    ):
        with pytest.raises(InvalidSymbol):
            ask()
    assert script.asked == []


@pytest.mark.parametrize(("after_close_ms", "kept"), [(-1, 2), (0, 3), (1, 3)])
def test_a_candle_is_closed_from_the_instant_of_its_end_on(
    scripted, envelope, after_close_ms, kept
):
    now = NOON + 3 * HOUR + after_close_ms
    rows = _rows(NOON, NOON + HOUR, NOON + 2 * HOUR)
    client, _ = scripted(envelope({"list": rows}, time=now))
    answer = _ask(client)
    assert (len(_starts(answer)), answer.as_of) == (kept, now)


@pytest.mark.parametrize(
    ("clock", "answered"),
    [(NOON + 2 * HOUR, NOON + 9 * HOUR), (NOON + 9 * HOUR, NOON + 2 * HOUR)],
    ids=["the answer jumped ahead", "the clock jumped ahead"],
)
def test_the_forming_candle_is_left_out_by_the_earlier_of_both_clocks(
    scripted, envelope, clock, answered
):
    rows = _rows(NOON, NOON + HOUR, NOON + 2 * HOUR)
    client, _ = scripted(envelope(time=clock), envelope({"list": rows}, time=answered))
    client.server_time()
    answer = _ask(client)
    assert answer.as_of == answered
    assert _starts(answer) == [NOON, NOON + HOUR]


def test_a_window_that_has_not_closed_at_all_has_no_candles(scripted, envelope):
    client, _ = scripted(envelope({"list": _rows(NOON)}, time=NOON + 1))
    assert _ask(client).candles.equals(CANDLE_SCHEMA.empty_table())
