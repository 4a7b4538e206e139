import numpy as np
import pytest

from flash_pipeline.evaluation.audits import audit_future
from flash_pipeline_tests.evaluation.audits.conftest import BARS, SLIDING, hour

CUT = hour(BARS - 40)


@pytest.fixture
def near(candles):
    return candles.between(hour(BARS - 140), hour(BARS))


def audit(candles, bundle):
    return audit_future(candles, bundle, CUT, np.random.default_rng(0))


@pytest.mark.parametrize("changes", [{}, SLIDING, {"head": "quantile"}])
def test_an_honest_chain_and_model_pass(near, make_bundle, changes):
    found = audit(near, make_bundle(**changes))
    assert found.passed
    assert found.checked
    assert found.words.endswith("no earlier feature or prediction changed by a bit")
    assert found.figures["features"] == 100 * 2 * 5
    assert found.figures["predictions"] > 100
    assert found.figures["features_changed"] == found.figures["predictions_changed"] == 0


def test_the_spoiled_candles_would_change_later_features(near):
    spoiled = near.spoiled(CUT, np.random.default_rng(0))
    pair = [each.features().to_pandas() for each in (near, spoiled)]
    later = pair[0]["start_time"] > CUT
    assert (pair[0].loc[later, "rsi"] != pair[1].loc[later, "rsi"]).all()


def test_a_feature_that_peeks_is_caught_with_the_predictions_made_from_it(
    near, make_bundle, with_feature
):
    with_feature(
        "price_ma_ratio",
        "coalesce(lead(close) OVER (PARTITION BY symbol ORDER BY start_time), close) / close",
    )
    found = audit(near, make_bundle())
    assert not found.passed
    assert "price_ma_ratio, the predictions before it changed with them" in found.words
    assert found.figures["features_changed"] == 2, "the last bar of both symbols"


def test_a_feature_scaled_by_the_whole_history_is_caught(near, make_bundle, with_feature):
    with_feature("rsi", "close / max(close) OVER (PARTITION BY symbol)")
    found = audit(near, make_bundle())
    assert not found.passed
    assert found.words.count("rsi") == 1
    assert "log_return" not in found.words


def test_a_full_span_model_read_at_an_inner_bar_is_caught(
    near, make_bundle, that_reads_the_whole_span
):
    found = audit(near, make_bundle(positions="rotary"))
    assert not found.passed
    assert "the predictions before it changed with them" in found.words
    assert found.figures["features_changed"] == 0
