import pytest

from flash_pipeline.evaluation.audits import audit_warmup
from flash_pipeline_tests.evaluation.audits.conftest import BARS, SLIDING, hour


@pytest.fixture
def newest(candles):
    return candles.between(hour(BARS - 300), hour(BARS))


@pytest.mark.parametrize("changes", [{}, SLIDING])
def test_an_honest_chain_and_model_pass(newest, make_bundle, changes):
    found = audit_warmup(newest, make_bundle(**changes))
    assert found.passed, found.words
    assert found.figures["features"] < 1e-9
    assert found.figures["predictions"] < 1e-4


@pytest.mark.parametrize(
    "sql",
    [
        "close / avg(close) OVER (PARTITION BY symbol ORDER BY start_time)",
        "close / first_value(close) OVER (PARTITION BY symbol ORDER BY start_time)",
        "CAST(row_number() OVER (PARTITION BY symbol ORDER BY start_time) AS DOUBLE)",
    ],
)
def test_a_feature_that_remembers_where_the_history_begins_is_caught(
    newest, make_bundle, with_feature, sql
):
    with_feature("price_ma_ratio", sql)
    found = audit_warmup(newest, make_bundle())
    assert not found.passed
    assert "price_ma_ratio" in found.words
    assert found.words.endswith("of the newest 24 bars depend on where the history begins")


def test_a_feature_with_a_longer_warm_up_than_the_catalog_says_is_caught(
    newest, make_bundle, with_feature
):
    with_feature("volatility", "CASE WHEN {full:49} THEN stddev_samp(log_return) OVER {w:48} END")
    found = audit_warmup(newest, make_bundle())
    assert not found.passed
    assert "volatility" in found.words
