"""The short way to the rows of an answer, held against JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.bybit.rows import lift_cells, parse_candles, parse_cells
from flash_pipeline.errors import ExchangeError

ROWS = [
    ["1746284400000", "96315.3", "96455", "96273.7", "96362.4", "1423.912", "137249252.1732"],
    ["1746280800000", "96275.3", "96379.3", "96226.7", "96315.3", "1659.965", ""],
]


def answer(rows, **more):
    result = {"symbol": "BTCUSDT", "category": "linear", "list": rows, **more}
    return json.dumps({"retCode": 0, "result": result}, separators=(",", ":")).encode()


def test_the_cells_are_those_of_the_rows_and_the_rest_is_the_answer_without_them():
    rest, cells = lift_cells(answer(ROWS), 7)
    assert rest == answer([])
    assert cells.to_pylist() == [cell for row in ROWS for cell in row]


@pytest.mark.parametrize(
    "body",
    [
        answer([]),
        b"",
        b"<html>",
        answer(ROWS)[:-40],
        answer([ROWS[0], ROWS[1][:6]]),
        answer([ROWS[0] + ROWS[1][:1], ROWS[1][1:]]),
        answer([[1746284400000, *ROWS[0][1:]]]),
        answer([[*ROWS[0][:3], None, *ROWS[0][4:]]]),
        answer([[*ROWS[0][:3], '1"2', *ROWS[0][4:]]]),
        answer(ROWS, list2=1).replace(b'"list2"', b'"list"'),
        answer(ROWS).replace(b'","', b'", "'),
        answer(ROWS).replace(b"96455", b"96\xff55"),
    ],
)
def test_anything_but_plain_rows_is_left_to_json(body):
    assert lift_cells(body, 7) is None


CELLS = st.sampled_from(
    ["1", "2.5", "-3e2", "", "nan", "1_0", " 1", "\u0661", "1e999", "x", "]]", ","]
)


@given(st.lists(st.lists(CELLS, min_size=7, max_size=7), min_size=1, max_size=4))
def test_both_ways_give_the_same_candles_or_both_refuse(rows):
    def outcome(parse):
        try:
            return parse()
        except ExchangeError as error:
            return type(error)

    lifted = lift_cells(answer(rows), 7)
    by_json = outcome(lambda: parse_candles(rows, "BTCUSDT"))
    if lifted is None:
        assert any("]]" in cell or not cell.isascii() for row in rows for cell in row)
    else:
        assert json.loads(lifted[0])["result"]["list"] == []
        assert outcome(lambda: parse_cells(lifted[1], "BTCUSDT")) == by_json
