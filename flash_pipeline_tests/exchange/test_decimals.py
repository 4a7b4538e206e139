import re

from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.exchange.decimals import decimal_text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_text_is_plain_and_reads_back_as_the_same_number(value):
    text = decimal_text(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)
    assert float(text) == value
