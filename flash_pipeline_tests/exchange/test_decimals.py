import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.exchange.decimals import decimal_text, decimal_texts


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_is_plain_and_reads_back_as_the_same_number(value):
    text = decimal_text(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert float(text) == value


@given(st.lists(st.floats(allow_infinity=False)))
def test_texts_of_a_column_are_those_of_its_values(values):
    assert decimal_texts(np.array(values)).to_pylist() == [decimal_text(x) for x in values]


@pytest.mark.parametrize("decade", range(-12, 22))
def test_texts_of_a_column_agree_in_every_decade(decade):
    column = 10.0**decade * np.concatenate([[1.0], np.random.default_rng(decade + 12).random(500)])
    assert decimal_texts(column).to_pylist() == [decimal_text(x) for x in column.tolist()]


def test_values_beside_the_bounds_of_plain_notation_have_no_exponent():
    bounds = [1e-7, 1e-6, 1e10, 1e16]
    column = np.array([np.nextafter(x, side) for x in bounds for side in (0, np.inf)] + bounds)
    assert decimal_texts(column).to_pylist() == [decimal_text(x) for x in column.tolist()]
