import dataclasses

import numpy as np
import pytest

from flash_pipeline.evaluation.audits import audit_labels
from flash_pipeline_tests.evaluation.audits.conftest import HORIZON, HOUR_MS, SLIDING


@pytest.fixture
def audit(candles, frame, make_bundle):
    def audit(windows=frame, bundle=None, **told):
        bundle = bundle or make_bundle()
        provenance = dataclasses.replace(bundle.provenance, **told)
        return audit_labels(candles, windows, dataclasses.replace(bundle, provenance=provenance))

    return audit


@pytest.mark.parametrize(
    "changes",
    [{}, SLIDING, {"target_scaling": "volatility"}, {"head": "direction"}, {"seeds": 2}],
)
def test_the_labels_ranges_and_scale_of_an_honest_training_are_right(audit, make_bundle, changes):
    found = audit(bundle=make_bundle(**changes))
    assert found.passed, found.words
    assert found.figures["labels"] > 1000
    assert found.figures["wrong"] == 0
    assert found.figures["scale"] < 1e-4


@pytest.mark.parametrize("bars", [-1, 1])
def test_labels_of_another_horizon_are_caught(audit, frame, bars):
    moved = np.roll(frame.along_time(frame.y_BKS), -bars, axis=0)
    blocks, width = frame.y_BKS.shape[:2]
    bar_BK = np.arange(blocks)[:, None] * frame.stride + np.arange(width)
    y_BKS = moved[np.minimum(bar_BK, len(moved) - 1)]
    found = audit(dataclasses.replace(frame, y_BKS=y_BKS))
    assert found.failed
    assert "labels are not those of the candles" in found.words


def test_one_wrong_label_among_all_is_caught(audit, frame):
    y_BKS = frame.y_BKS.copy()
    y_BKS[2, frame.lookback, 0] *= 1 + 1e-5
    found = audit(dataclasses.replace(frame, y_BKS=y_BKS))
    assert found.failed
    assert found.figures["wrong"] == 1


def test_label_ends_that_are_told_too_early_are_caught(audit, frame):
    early = dataclasses.replace(frame, label_end_N=frame.label_end_N - HOUR_MS)
    assert f"labels do not end {HORIZON} bars on" in audit(early).words


@pytest.mark.parametrize("name", ["training", "validation"])
def test_ranges_without_a_purge_are_caught(audit, make_bundle, name):
    told = make_bundle().provenance
    last, following = {
        "training": ("trained_to", told.validated_from),
        "validation": ("validated_to", told.tested_from),
    }[name]
    found = audit(**{last: following - HOUR_MS})
    assert found.failed
    assert f"the {name} labels end at" in found.words
    assert "in the next range from" in found.words


def test_a_claim_to_have_seen_less_than_the_validation_range_is_caught(audit, make_bundle):
    seen = make_bundle().provenance.seen_until
    assert "the validation labels end at" in audit(seen_until=seen - HOUR_MS).words


def test_a_scale_of_the_test_range_is_caught(audit, frame, make_bundle):
    from flash_pipeline.evaluation import trading

    bundle = make_bundle()
    tested_N = np.flatnonzero(frame.made_at_N >= bundle.provenance.tested_from)
    value_NS = trading.predict_windows(frame, bundle, tested_N).value_NS
    scale = float(np.sqrt((value_NS.astype(float) ** 2).mean()))
    found = audit(bundle=dataclasses.replace(bundle, prediction_scale=scale))
    assert found.failed
    assert "from that of the validation range" in found.words


def test_a_model_that_does_not_tell_its_dates_is_not_checked(audit):
    found = audit(trained_to=None, validated_from=None, validated_to=None, tested_from=None)
    assert found.outcome == "not checked"
