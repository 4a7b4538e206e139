import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidSymbol
from flash_pipeline.market import parse_symbol, parse_symbols


@pytest.mark.parametrize("name", ["BTCUSDT", "1000PEPEUSDT", "10", "A" * 20])
def test_a_symbol_is_2_to_20_capitals_and_digits(name):
    assert parse_symbol(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "A", "A" * 21, "btcusdt", "BTC-USDT", "BTC USDT", "BTCUSDT\n", "../../etc", "ÄUSDT", "٣٣"],
)
def test_a_malformed_symbol_is_refused_by_name(name):
    with pytest.raises(InvalidSymbol, match=re.escape(repr(name))):
        parse_symbol(name)


@pytest.mark.parametrize("name", [None, 10, b"BTCUSDT"])
def test_what_is_no_text_is_no_symbol(name):
    with pytest.raises(InvalidSymbol):
        parse_symbol(name)


@given(st.text())
def test_no_symbol_can_leave_a_folder(name):
    try:
        symbol = parse_symbol(name)
    except InvalidSymbol:
        return
    assert not set(symbol) & set("./\\\0=* \n")


def test_symbols_keep_their_order():
    assert parse_symbols(["ETHUSDT", "BTCUSDT"]) == ("ETHUSDT", "BTCUSDT")


def test_no_symbol_at_all_is_refused():
    with pytest.raises(InvalidSymbol, match="no symbol given"):
        parse_symbols([])


def test_a_repeated_symbol_is_refused_by_name():
    with pytest.raises(InvalidSymbol, match="'ETHUSDT' is given more than once"):
        parse_symbols(["ETHUSDT", "BTCUSDT", "ETHUSDT"])


def test_a_text_is_not_taken_for_its_letters():
    with pytest.raises(InvalidSymbol):
        parse_symbols("BTCUSDT")
