import pytest

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits import audit_live
from flash_pipeline_tests.evaluation.audits.conftest import SLIDING, hour

HOURS = [hour(560), hour(600), hour(636)]


@pytest.mark.parametrize("changes", [{}, SLIDING, {"head": "direction"}])
def test_the_live_forecasts_are_the_predictions_of_the_backtest(
    candles, frame, make_bundle, changes
):
    found = audit_live(candles, frame, "3", make_bundle(**changes), HOURS)
    assert found.passed, found.words
    assert found.figures["forecasts"] == 6
    assert found.figures["difference"] < 1e-4


def test_a_full_span_model_read_at_an_inner_bar_is_caught(
    candles, frame, make_bundle, that_reads_the_whole_span
):
    found = audit_live(candles, frame, "3", make_bundle(positions="rotary"), HOURS)
    assert not found.passed
    assert "are not the backtest's predictions: those of 2024-01-" in found.words


def test_a_feature_that_peeks_is_caught(candles, make_bundle, with_feature):
    with_feature(
        "rsi", "100 * coalesce(lead(close) OVER (PARTITION BY symbol ORDER BY start_time), 0)"
    )
    spoilt = candles.frame(16, 4, synthetic=True)
    assert not audit_live(candles, spoilt, "3", make_bundle(), HOURS).passed


def test_a_backtest_whose_predictions_are_a_bar_off_is_caught(
    candles, frame, make_bundle, monkeypatch
):
    honest = trading.predict_windows

    def late(frame, bundle, index_N):
        return honest(frame, bundle, index_N - (len(index_N) > 1))

    monkeypatch.setattr(trading, "predict_windows", late)
    assert not audit_live(candles, frame, "3", make_bundle(), HOURS).passed
