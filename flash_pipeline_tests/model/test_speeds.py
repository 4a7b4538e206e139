import pytest

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.speeds import SpeedTable

ROW = {"head_size": 64, "span": "causal", "length": 1024, "ms": {"sdpa": 2.0, "flex": 1.0}}


def table(*rows):
    return SpeedTable.from_dict({"hardware": "imagined", "rows": list(rows)})


def test_backends_are_ranked_by_their_time():
    assert table(ROW).ranking(64, "causal", 1024) == ("flex", "sdpa")


def test_the_nearest_row_has_the_nearest_head_size_and_then_the_nearest_length():
    wide = {**ROW, "head_size": 128, "ms": {"sdpa": 1.0}}
    long = {**ROW, "length": 9000, "ms": {"reference": 1.0}}
    speeds = table(ROW, wide, long)
    assert speeds.ranking(128, "causal", 9000) == ("sdpa",)
    assert speeds.ranking(64, "causal", 4000) == ("reference",)
    assert speeds.ranking(64, "causal", 2000) == ("flex", "sdpa")


def test_a_span_that_was_not_measured_has_no_ranking():
    assert table(ROW).ranking(64, "full", 1024) == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "ms": {"triton": 1.0}}, "'triton' is unknown"),
        ({**ROW, "ms": {"sdpa": 0.0}}, "sdpa took 0.0 ms"),
        ({"head_size": 64}, "no table of attention speeds"),
    ],
)
def test_a_table_of_another_form_is_refused(row, message):
    with pytest.raises(InvalidInput, match=message):
        table(row)
