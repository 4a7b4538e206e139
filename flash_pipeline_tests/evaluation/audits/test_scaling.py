import dataclasses

import pytest

from flash_pipeline.evaluation.audits import audit_scaling
from flash_pipeline.training.scaler import FeatureScaler
from flash_pipeline.training.targets import RmsScaler
from flash_pipeline_tests.evaluation.audits.conftest import SLIDING, hour


@pytest.mark.parametrize(
    "changes",
    [
        {},
        SLIDING,
        {"feature_scaling": "robust", "target_scaling": "volatility"},
        {"head": "allocation"},
    ],
)
def test_the_scalers_of_an_honest_training_are_those_of_its_range(frame, make_bundle, changes):
    found = audit_scaling(frame, make_bundle(**changes))
    assert found.passed
    assert found.checked
    assert max(found.figures.values()) < 1e-6


def test_a_scaler_of_the_features_fitted_on_all_bars_is_caught(frame, make_bundle):
    x_TSF = frame.along_time(frame.x_BKSF)
    leaking = dataclasses.replace(make_bundle(), features=FeatureScaler.fit(x_TSF))
    found = audit_scaling(frame, leaking)
    assert not found.passed
    assert found.figures["features"] > 0.01
    assert "are not those of the model" in found.words


def test_a_scaler_of_the_targets_fitted_on_all_labels_is_caught(frame, make_bundle):
    leaking = dataclasses.replace(make_bundle(), targets=RmsScaler.fit(frame.label_NS))
    found = audit_scaling(frame, leaking)
    assert not found.passed
    assert found.figures["targets"] > 0.002 > found.figures["features"]


def test_windows_that_begin_after_the_training_range_cannot_tell(candles, make_bundle):
    later = candles.between(hour(100), hour(640)).frame(16, 4, synthetic=True)
    found = audit_scaling(later, make_bundle())
    assert found.outcome == "not checked"
    assert not found.passed
    assert found.words.startswith("not checked: the windows from")
