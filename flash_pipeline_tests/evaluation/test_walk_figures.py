import pyarrow as pa
import pytest

from flash_pipeline.evaluation.scores import SCORE_SCHEMA
from flash_pipeline.evaluation.walk_figures import draw_scores, model_table, scope_table


@pytest.fixture
def scores():
    def row(model, scope, measure, value, low=None, high=None):
        names = ("model", "scope", "measure", "value", "low", "high", "dates")
        return dict(zip(names, (model, scope, measure, value, low, high, 1200), strict=True))

    return pa.Table.from_pylist(
        [
            row("zero", "all", "rank_ic", None),
            row("zero", "all", "hit_rate", None),
            row("ridge", "all", "rank_ic", 0.021, -0.004, 0.046),
            row("ridge", "all", "hit_rate", 0.51, 0.49, 0.53),
            row("ridge", "all", "pinball", 0.00412),
            row("ridge", "BTCUSDT", "rank_ic", 0.03, 0.01, 0.05),
            row("ridge", "2024-02", "rank_ic", -0.01),
            row("zero", "2024-02", "rank_ic", None),
        ],
        schema=SCORE_SCHEMA,
    )


def test_a_line_for_each_model_with_intervals_where_there_are_any(scores):
    zero, ridge = model_table(scores)
    assert zero == {"model": "zero", "rank_ic": "", "hit_rate": "", "pinball": ""}
    assert ridge["rank_ic"] == "+0.021 [-0.004, +0.046]"
    assert ridge["hit_rate"] == "0.510 [0.490, 0.530]"
    assert ridge["pinball"] == "0.00412"


def test_a_line_for_each_symbol_and_month(scores):
    assert scope_table(scores) == [
        {"scope": "BTCUSDT", "dates": "1,200", "ridge": "+0.030"},
        {"scope": "2024-02", "dates": "1,200", "ridge": "-0.010", "zero": ""},
    ]


def test_the_picture_is_the_same_for_the_same_scores_and_says_where_it_is_synthetic(scores):
    one, other = (draw_scores(scores, synthetic=True) for _ in range(2))
    assert one == other
    assert one.startswith(b"\x89PNG")
    assert one != draw_scores(scores, synthetic=False)
