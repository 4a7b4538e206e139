"""Whatever the exchange answers: typed rows, or an error of the tree."""

import copy
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flash_pipeline.bybit import INSTRUMENT_SCHEMA, TICKER_SCHEMA, fetch_instruments
from flash_pipeline.errors import ExchangeError
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    FUNDING_SCHEMA,
    MARK_CANDLE_SCHEMA,
    Interval,
    TimeRange,
)

HOUR = 3_600_000
NOW = 1746288000500
WINDOW = TimeRange(1746277200000, 1746288000000)
JSON = {"Content-Type": "application/json"}
ROWS = [
    ["1746284400000", "96315.3", "96455", "96273.7", "96362.4", "1423.912", "137249252.1732"],
    ["1746280800000", "96275.3", "96379.3", "96226.7", "96315.3", "1659.965", "159867176.9422"],
    ["1746277200000", "96059.1", "96275.3", "96043.1", "96275.3", "1581.753", ""],
]
FUNDING = {"symbol": "BTCUSDT", "fundingRate": "1e-4", "fundingRateTimestamp": "1746277200000"}
INSTRUMENT = {
    "symbol": "BTCUSDT",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "launchTime": "1585526400000",
    "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
    "fundingInterval": 480,
}
TICKER_FIELDS = (
    "lastPrice markPrice indexPrice bid1Price ask1Price price24hPcnt volume24h turnover24h "
    "openInterest fundingRate nextFundingTime"
)
TICKER = {"symbol": "BTCUSDT", **dict.fromkeys(TICKER_FIELDS.split(), "7")}

GOOD: dict[str, dict[str, Any]] = {
    "candles": {"symbol": "BTCUSDT", "category": "linear", "list": ROWS},
    "mark_klines": {"symbol": "BTCUSDT", "list": [row[:5] for row in ROWS]},
    "funding": {"category": "linear", "list": [FUNDING]},
    "instruments": {"list": [INSTRUMENT], "nextPageCursor": ""},
    "tickers": {"category": "linear", "list": [TICKER]},
    "time": {"timeSecond": "1746288000", "timeNano": "1746288000500000000"},
}


def _call(client, name: str) -> Any:
    calls = {
        "candles": lambda: client.candles("BTCUSDT", Interval.HOUR_1, WINDOW).candles,
        "mark_klines": lambda: client.mark_klines("BTCUSDT", Interval.HOUR_1, WINDOW).candles,
        "funding": lambda: client.funding("BTCUSDT", WINDOW),
        "instruments": lambda: fetch_instruments(client, ["BTCUSDT"]),
        "tickers": lambda: client.tickers(["BTCUSDT"]),
        "time": client.server_time,
    }
    return calls[name]()


SCHEMAS = {
    "candles": CANDLE_SCHEMA,
    "mark_klines": MARK_CANDLE_SCHEMA,
    "funding": FUNDING_SCHEMA,
    "instruments": INSTRUMENT_SCHEMA,
    "tickers": TICKER_SCHEMA,
}


def _typed_or_refused(client, name: str) -> bool:
    """Say whether a call gave rows, which are then checked; an error of the tree is the other."""
    try:
        value = _call(client, name)
    except ExchangeError:
        return False
    if name == "time":
        assert type(value) is int
        return True
    assert isinstance(value, pa.Table)
    assert value.schema.equals(SCHEMAS[name])
    value.validate(full=True)
    if name in ("candles", "mark_klines", "funding"):
        times = value.columns[0].to_pylist()
        assert times == sorted(set(times))
        assert all(time in WINDOW for time in times)
    return True


letters = st.characters(max_codepoint=255)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(letters, max_size=5)
    | st.sampled_from(["", "nan", "1e999", "9" * 30, "-1", "1746284400000", "\ud800", "ETHUSDT"])
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.text(letters, max_size=4), inner, max_size=4)
    ),
    max_leaves=10,
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where every part of a JSON value lies, itself first."""
    items: Any = ()
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    return [here, *(path for key, part in items for path in _paths(part, (*here, key)))]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, Any]:
    """A good answer of one of the calls with one part replaced, dropped or doubled."""
    name = draw(st.sampled_from(sorted(GOOD)))
    body = copy.deepcopy({"retCode": 0, "retMsg": "OK", "result": GOOD[name], "time": NOW})
    path = draw(st.sampled_from(_paths(body)[1:]))
    holder: Any = body
    for key in path[:-1]:
        holder = holder[key]
    act = draw(st.sampled_from(["replace", "drop", "double"]))
    if act == "drop":
        del holder[path[-1]]
    elif act == "double" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[path[-1]]))
    else:
        holder[path[-1]] = draw(anything)
    return name, body


fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", sorted(GOOD))
def test_the_good_answers_are_read(scripted, envelope, name):
    client, _ = scripted(envelope(GOOD[name], time=NOW))
    assert _typed_or_refused(client, name)


@settings(fuzz, max_examples=300)
@given(mutations())
@example(("candles", {"retCode": 0, "result": {"list": [[*ROWS[0][:6], "\ud800"]]}, "time": NOW}))
@example(("candles", {"retCode": 0, "result": {"list": [["9" * 30, *ROWS[0][1:]]]}, "time": NOW}))
@example(("instruments", {"retCode": 0, "result": {"list": [{"symbol": ["x"]}]}, "time": NOW}))
def test_any_mutation_of_a_good_answer_is_typed_rows_or_an_error_of_the_tree(scripted, mutated):
    name, body = mutated
    client, _ = scripted((200, JSON, json.dumps(body).encode()))
    _typed_or_refused(client, name)


@fuzz
@given(st.sampled_from(sorted(GOOD)), anything | st.fixed_dictionaries({"result": anything}))
def test_any_json_is_typed_rows_or_an_error_of_the_tree(scripted, name, body):
    whole = {"retCode": 0, "time": NOW, **body} if isinstance(body, dict) else body
    client, _ = scripted((200, JSON, json.dumps(whole).encode()))
    _typed_or_refused(client, name)


@fuzz
@given(
    st.sampled_from(sorted(GOOD)),
    st.binary(max_size=60),
    st.sampled_from([200, 200, 200, 403, 429, 500, 302, 404]),
    st.sampled_from(["application/json", "text/html", "", "\xff"]),
)
def test_any_bytes_are_typed_rows_or_an_error_of_the_tree(scripted, name, content, status, kind):
    client, _ = scripted((status, {"Content-Type": kind}, content))
    assert not _typed_or_refused(client, name)


@fuzz
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_good_answer_cut_off_anywhere_is_refused(scripted, envelope, name, data):
    whole = json.dumps(envelope(GOOD[name], time=NOW)).encode()
    cut = data.draw(st.integers(0, len(whole) - 1))
    client, _ = scripted((200, JSON, whole[:cut]))
    assert not _typed_or_refused(client, name)


@fuzz
@given(st.sampled_from(sorted(GOOD)), st.data(), st.integers(1, 255))
def test_one_garbled_byte_never_ends_in_another_error(scripted, envelope, name, data, flip):
    whole = bytearray(json.dumps(envelope(GOOD[name], time=NOW)).encode())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= flip
    client, _ = scripted((200, JSON, bytes(whole)))
    _typed_or_refused(client, name)
