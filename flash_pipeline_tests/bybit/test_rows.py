import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.bybit.rows import parse_candles
from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer
from flash_pipeline.market import CANDLE_SCHEMA, MARK_CANDLE_SCHEMA

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
    with pytest.raises(InconsistentAnswer, match="BTCUSDT: two candles of 1746284400000 differ"):
        parse_candles([*ROWS, FORMING], "BTCUSDT")


@pytest.mark.parametrize("field", range(1, 7))
@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "x",
        " ",
        "+1",
        ".5",
        "1_0",
        "0x10",
        "1 ",
        "\u0661",
        "1\n",
    ],
)
def test_a_number_that_is_none_is_refused_by_field_and_candle(field, value):
    message = rf"BTCUSDT: {FIELDS[field - 1]} of candle 1746284400000 is "
    with pytest.raises(MalformedAnswer, match=message) as caught:
        parse_candles([ROWS[1], _with(field, value)], "BTCUSDT")
    assert repr(value) in str(caught.value)
    assert caught.value.symbol == "BTCUSDT"


@pytest.mark.parametrize("field", range(1, 6))
def test_only_the_turnover_may_be_empty(field):
    with pytest.raises(MalformedAnswer, match=r"is '': expected a finite number"):
        parse_candles([_with(field, "")], "BTCUSDT")


@pytest.mark.parametrize(
    "start",
    ["", "1.5", "-1", "+1", "1e3", " 1", "1_0", "0x1", "\u0661", "9" * 15, "9" * 30, "1\n"],
)
def test_a_start_that_is_no_time_is_refused(start):
    with pytest.raises(MalformedAnswer, match="BTCUSDT: start of a candle is "):
        parse_candles([_with(0, start)], "BTCUSDT")


def test_rows_of_the_mark_price_have_five_columns():
    candles = parse_candles([row[:5] for row in ROWS], "BTCUSDT", MARK_CANDLE_SCHEMA)
    assert candles.schema.equals(MARK_CANDLE_SCHEMA)
    assert candles["close"].to_pylist() == [float(row[4]) for row in reversed(ROWS)]


def test_float_noise_and_real_extremes_pass():
    row = ["1746284400000", "0.00001", "0.5", "1e-7", "0.4", "341.89799999", "0"]
    (candle,) = parse_candles([row], "BTCUSDT").to_pylist()
    assert (candle["low"], candle["volume"], candle["turnover"]) == (1e-7, 341.89799999, 0.0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_its_text(value):
    candles = parse_candles([_with(4, repr(value))], "BTCUSDT")
    assert candles["close"].to_pylist() == [value]


@given(st.integers(0, 10**14 - 1))
def test_every_time_survives_its_text(value):
    assert parse_candles([_with(0, str(value))], "BTCUSDT")["start_time"].to_pylist() == [value]


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=4))
def test_any_order_and_any_repetition_give_the_same_candles(order, repeated):
    rows = [[str(n * 3_600_000), *ROWS[n % 3][1:6], "" if n % 2 else "7"] for n in range(8)]
    expected = parse_candles(rows, "BTCUSDT")
    given_rows = [rows[n] for n in (*order, *repeated)]
    assert parse_candles(given_rows, "BTCUSDT").equals(expected, check_metadata=True)
    assert expected.schema.equals(CANDLE_SCHEMA, check_metadata=True)


def test_a_repeated_row_keeps_the_schema_with_its_nulls():
    row = [*ROWS[0][:6], ""]
    candles = parse_candles([row, row], "BTCUSDT")
    candles.validate(full=True)
    assert candles.schema.equals(CANDLE_SCHEMA, check_metadata=True)
    assert candles["turnover"].to_pylist() == [None]


def test_a_thousand_rows_are_read_cell_by_cell_as_python_reads_them():
    random = np.random.default_rng(7)
    rows = [
        [str(n * 3_600_000), *(f"{x:.{n % 9}f}" for x in random.lognormal(3, 3, 6))]
        for n in range(1000)
    ]
    columns = [list(map(float, column)) for column in list(zip(*rows, strict=True))[1:]]
    candles = parse_candles(rows, "BTCUSDT")
    assert [column.to_pylist() for column in candles.columns[1:]] == columns
    assert pa.types.is_float64(candles.schema.field("close").type)
