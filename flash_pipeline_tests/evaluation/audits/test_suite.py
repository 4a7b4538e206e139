import dataclasses
import json

import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch, NotEnoughHistory
from flash_pipeline.evaluation.audits import AUDIT_SCHEMA, Original, audit_model, audits_table
from flash_pipeline.evaluation.audits.result import largest_difference
from flash_pipeline.training.scaler import FeatureScaler
from flash_pipeline_tests.evaluation.audits.conftest import SLIDING, hour

NAMES = ["future", "warm-up", "scaling", "labels", "shift", "live", "shuffle", "retraining"]


@pytest.fixture
def audit(frame, store, make_recipe, make_bundle):
    def audit(bundle=None, **changes):
        bundle = bundle or make_bundle(**changes)
        recipe = make_recipe(**changes)
        original = Original(recipe, "cpu", None)
        return audit_model("3", bundle, frame, store, recipe, original=original)

    return audit


@pytest.mark.parametrize("changes", [{}, SLIDING])
def test_every_audit_of_an_honest_model_passes_and_was_checked(audit, changes):
    results = audit(**changes)
    assert [each.audit for each in results] == NAMES
    assert all(each.passed and each.checked for each in results), results


def test_the_same_data_give_the_same_audits(audit):
    assert audit() == audit()


def test_a_planted_leak_fails_its_own_audit(audit, frame, make_bundle):
    everything = FeatureScaler.fit(frame.along_time(frame.x_BKSF))
    results = audit(dataclasses.replace(make_bundle(), features=everything))
    # A model with other scalers predicts other values: the scale of its positions shows it too.
    assert {each.audit for each in results if each.failed} == {"scaling", "labels", "retraining"}


def test_a_model_older_than_the_windows_is_audited_on_its_own_candles(
    audit, candles, frame, store, make_bundle
):
    later = candles.between(hour(200), hour(640)).frame(16, 4, synthetic=True)
    everything = FeatureScaler.fit(frame.along_time(frame.x_BKSF))
    results = audit_model("3", make_bundle(), later, store, None)
    assert all(each.passed and each.checked for each in results), results
    leaking = dataclasses.replace(make_bundle(), features=everything)
    found = {each.audit: each for each in audit_model("3", leaking, later, store, None)}
    assert found["scaling"].failed


def test_audits_make_a_table(audit):
    results = audit()
    table = audits_table(results)
    assert table.schema.equals(AUDIT_SCHEMA)
    assert table["audit"].to_pylist() == NAMES
    assert [json.loads(text) for text in table["figures"].to_pylist()] == [
        each.figures for each in results
    ]


@pytest.mark.parametrize(
    "change", [{"horizon": 5}, {"symbols": ("BTCUSDT", "XRPUSDT")}, {"lookback": 32}]
)
def test_a_model_that_does_not_fit_the_windows_is_refused(audit, make_bundle, change):
    with pytest.raises(BundleMismatch, match=r"version 3 (predicts|needs) .* \(the windows: "):
        audit(dataclasses.replace(make_bundle(), **change))


def test_a_model_that_has_seen_nearly_everything_is_refused(audit, make_bundle):
    bundle = make_bundle()
    late = dataclasses.replace(bundle.provenance, seen_until=hour(636))
    with pytest.raises(NotEnoughHistory, match="5 windows follow what version 3 has seen"):
        audit(dataclasses.replace(bundle, provenance=late))


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 5.0], [3.0, 4.0], 1 / np.sqrt(12.5)),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [2.0, 1.0], np.inf),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], np.inf),
        ([np.nan], [np.nan], 0.0),
    ],
)
def test_predictions_are_compared_in_units_of_their_size(found, expected, difference):
    assert largest_difference(np.array(found), np.array(expected)) == pytest.approx(difference)
