import json

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_pipeline.bybit.answers import (
    parse_candles,
    parse_integer,
    parse_number,
    read_envelope,
    read_rows,
)
from flash_pipeline.errors import ExchangeError, MalformedAnswer
from flash_pipeline.market import CANDLE_SCHEMA

# Real candles of BTCUSDT, 2025-05-03 13:00 to 15:00 UTC, as the exchange sends them.
ROWS = [
    ["1746284400000", "96315.3", "96455", "96273.7", "96362.4", "1423.912", "137249252.1732"],
    ["1746280800000", "96275.3", "96379.3", "96226.7", "96315.3", "1659.965", "159867176.9422"],
    ["1746277200000", "96059.1", "96275.3", "96043.1", "96275.3", "1581.753", "152100355.2121"],
]
FORMING = ["1746284400000", "96315.3", "96455", "96315.2", "96370", "800.431", ""]
FIELDS = ("open", "high", "low", "close", "volume", "turnover")


def _with(field: int, value: object) -> list[object]:
    return [*ROWS[0][:field], value, *ROWS[0][field + 1 :]]


def test_rows_become_candles_oldest_first():
    candles = parse_candles(ROWS, "BTCUSDT")
    assert candles.schema.equals(CANDLE_SCHEMA)
    assert [list(row.values()) for row in candles.to_pylist()] == [
        [int(row[0]), *map(float, row[1:])] for row in reversed(ROWS)
    ]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_any_order_of_rows_gives_the_same_candles(order):
    shuffled = [ROWS[n] for n in order]
    assert parse_candles(shuffled, "BTCUSDT").equals(parse_candles(ROWS, "BTCUSDT"))


def test_no_rows_are_no_candles():
    assert parse_candles([], "BTCUSDT").equals(CANDLE_SCHEMA.empty_table())


def test_an_empty_turnover_is_null():
    candles = parse_candles([FORMING, ROWS[1]], "BTCUSDT")
    assert candles["turnover"].to_pylist() == [159867176.9422, None]


def test_equal_rows_of_one_start_collapse():
    assert parse_candles([*ROWS, ROWS[0]], "BTCUSDT").num_rows == 3


def test_differing_rows_of_one_start_are_refused():
    with pytest.raises(MalformedAnswer, match="BTCUSDT: two candles of 1746284400000 differ"):
        parse_candles([*ROWS, FORMING], "BTCUSDT")


@pytest.mark.parametrize("field", range(1, 7))
@pytest.mark.parametrize("value", ["NaN", "inf", "-Infinity", "1e999", "x", " ", None, 1.5, 7, []])
def test_a_number_that_is_none_is_refused_by_field_and_candle(field, value):
    message = rf"BTCUSDT: {FIELDS[field - 1]} of .*1746284400000 is "
    with pytest.raises(MalformedAnswer, match=message):
        parse_candles([_with(field, value)], "BTCUSDT")


@pytest.mark.parametrize("field", range(1, 6))
def test_only_the_turnover_may_be_empty(field):
    with pytest.raises(MalformedAnswer, match=r"is '': expected a number"):
        parse_candles([_with(field, "")], "BTCUSDT")


@pytest.mark.parametrize(
    "start",
    ["", "1.5", "-1", "+1", "1e3", " 1", "1_0", "\u0661", "9" * 15, "9" * 30, 1, None, True],
)
def test_a_start_that_is_no_time_is_refused(start):
    with pytest.raises(MalformedAnswer, match="BTCUSDT: start of a candle is "):
        parse_candles([_with(0, start)], "BTCUSDT")


@pytest.mark.parametrize("row", [ROWS[0][:6], [*ROWS[0], "0"], [], {}, None, "1746284400000", 7])
def test_a_row_of_another_shape_is_refused_with_the_symbol(row):
    with pytest.raises(MalformedAnswer, match="BTCUSDT: kline row") as caught:
        parse_candles([ROWS[1], row], "BTCUSDT")
    assert caught.value.symbol == "BTCUSDT"


def test_float_noise_and_real_extremes_pass():
    row = ["1746284400000", "0.00001", "0.5", "1e-7", "0.4", "341.89799999", "0"]
    (candle,) = parse_candles([row], "BTCUSDT").to_pylist()
    assert (candle["low"], candle["volume"], candle["turnover"]) == (1e-7, 341.89799999, 0.0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_its_text(value):
    assert parse_number(repr(value), "x") == value


@given(st.integers(0, 10**14 - 1))
def test_every_time_survives_its_text(value):
    assert parse_integer(str(value), "x") == value


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
cells = st.sampled_from([*ROWS[0], "", "nan", "1e999", "9" * 30, "-1"]) | anything
rows = st.lists(cells, min_size=7, max_size=7) | st.sampled_from(ROWS) | anything
envelopes = st.fixed_dictionaries(
    {"retCode": st.sampled_from([0, 0, 0, 10001, 10006]) | anything},
    optional={
        "retMsg": st.text(max_size=10) | anything,
        "result": st.fixed_dictionaries({}, optional={"list": st.lists(rows, max_size=4)})
        | anything,
    },
)


@given(envelopes | anything)
@example({"retCode": 0, "result": {"list": ROWS}})
@example({"retCode": 0, "result": {"list": [_with(0, "9" * 30)]}})
def test_any_json_gives_typed_rows_or_an_error_of_the_tree(answer, body):
    content = json.dumps(body).encode()
    try:
        whole = read_envelope(answer(content=content), symbol="BTCUSDT")
        candles = parse_candles(read_rows(whole.get("result"), "url"), "BTCUSDT")
    except ExchangeError:
        return
    assert isinstance(candles, pa.Table)
    assert candles.schema.equals(CANDLE_SCHEMA)
    candles.validate(full=True)
    starts = candles["start_time"].to_pylist()
    assert starts == sorted(set(starts))


@given(st.binary(max_size=60))
def test_any_bytes_give_an_envelope_or_an_error_of_the_tree(answer, content):
    try:
        assert read_envelope(answer(content=content))["retCode"] == 0
    except ExchangeError:
        return
