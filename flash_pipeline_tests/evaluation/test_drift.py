"""Shape letters: T bars."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidInput, NotEnoughHistory
from flash_pipeline.evaluation.drift import FeatureDrift, drift_warnings, feature_drift, psi

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000


def sample(count, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, count)


def test_the_index_by_hand():
    # Two bins split at the median, 1.5: shares 2.5 / 5 and 2.5 / 5 against 1.5 / 5 and 3.5 / 5.
    found = psi(np.array([1.0, 1.0, 2.0, 2.0]), np.array([1.0, 2.0, 2.0, 2.0]), bins=2)
    assert found == pytest.approx(-0.2 * math.log(0.3 / 0.5) + 0.2 * math.log(0.7 / 0.5))


def test_equal_samples_have_no_shift():
    assert psi(sample(500), sample(500)) == pytest.approx(0)


def test_a_shift_by_a_deviation_is_far_above_the_threshold():
    assert psi(sample(5000), sample(5000, mean=1, seed=1)) > 0.5


def test_two_samples_of_one_distribution_have_the_expected_index():
    found = [psi(sample(2000, seed=s), sample(500, seed=s + 999)) for s in range(60)]
    assert np.mean(found) == pytest.approx(9 * (1 / 2000 + 1 / 500), rel=0.15)


@given(
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50),
    st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50),
)
def test_the_index_is_never_negative(expected, actual):
    assert psi(np.array(expected), np.array(actual)) >= 0


def test_values_that_are_not_finite_are_left_out():
    holes = np.concatenate([sample(500), [np.nan, np.inf]])
    assert psi(holes, sample(500)) == pytest.approx(0)
    assert math.isnan(psi(np.array([np.nan]), sample(5)))


def test_a_constant_feature_is_one_bin():
    assert psi(np.full(50, 50.0), np.full(500, 50.0)) == pytest.approx(0, abs=0.05)


def test_fewer_than_two_bins_are_refused():
    with pytest.raises(InvalidInput, match="bins=1: expected at least 2"):
        psi(sample(5), sample(5), bins=1)


@pytest.mark.parametrize(
    ("value", "usual", "verdict"),
    [
        (0.05, 0.0, "stable"),
        (0.1, 0.0, "moderate"),
        (0.25, 0.0, "shifted"),
        (0.3, 0.4, "stable"),
        (math.nan, 0.0, "unknown"),
    ],
)
def test_the_verdict_goes_by_the_thresholds_and_by_what_is_usual(value, usual, verdict):
    assert FeatureDrift("BTCUSDT", "rsi", value, usual).verdict == verdict


@pytest.fixture
def provenance(make_bundle):
    return make_bundle(
        train_from=FIRST_MS + 24 * HOUR_MS, train_until=FIRST_MS + 140 * HOUR_MS
    ).provenance


def test_every_feature_of_every_symbol_is_compared(frame, provenance):
    found = feature_drift(frame, provenance, recent=100)
    assert [(each.symbol, each.feature) for each in found] == [
        (symbol, feature) for symbol in frame.symbols for feature in frame.features
    ]
    assert all(np.isfinite(each.psi) and each.psi >= 0 for each in found)


def test_a_feature_that_has_moved_is_named(frame, provenance):
    x_BKSF = frame.x_BKSF.copy()
    late_BK = np.zeros(x_BKSF.shape[:2], bool)
    for b, k in np.ndindex(*late_BK.shape):
        bar = b * frame.stride + k
        late_BK[b, k] = (
            bar < len(frame.start_time_T) and frame.start_time_T[bar] >= provenance.train_until
        )
    x_BKSF[late_BK, 1, 4] += 200
    found = feature_drift(dataclasses.replace(frame, x_BKSF=x_BKSF), provenance, recent=100)
    shifted = max(found, key=lambda each: each.psi)
    assert (shifted.symbol, shifted.feature, shifted.verdict) == ("ETHUSDT", "rsi", "shifted")


def test_a_feature_that_is_not_known_has_no_index(frame, provenance):
    x_BKSF = frame.x_BKSF.copy()
    x_BKSF[..., 0, 2] = np.nan
    found = feature_drift(dataclasses.replace(frame, x_BKSF=x_BKSF), provenance, recent=100)
    assert found[2].verdict == "unknown"


@pytest.mark.parametrize("until", [150, 2000])
def test_too_few_bars_on_either_side_are_refused(frame, provenance, until):
    late = dataclasses.replace(provenance, train_until=FIRST_MS + until * HOUR_MS)
    with pytest.raises(NotEnoughHistory, match="bars follow the training range"):
        feature_drift(frame, late)


def drifts(values, stretches):
    """Return one feature per value, all of them with the same stretches."""
    return [
        FeatureDrift("BTCUSDT", f"f{n}", value, max(stretches), tuple(stretches))
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "stretches", "warned"),
    [
        ([0.3, 0.3], [0.1, 0.15], True),
        ([0.2, 0.2], [0.1, 0.1], False),
        ([0.3, 0.3], [0.1, 0.25], False),
        ([0.9, 0.0, 0.0, 0.0], [0.1, 0.1], False),
        ([math.nan, 0.3], [0.1, 0.15], True),
        ([math.nan], [math.nan], False),
    ],
)
def test_the_inputs_as_a_whole_are_warned_of_when_no_stretch_of_the_training_was_like_it(
    values, stretches, warned
):
    assert bool(drift_warnings(drifts(values, stretches))) is warned


def test_the_warning_names_what_has_moved_most():
    (told,) = drift_warnings(drifts([0.3, 0.9, 0.5, 0.4], [0.1, 0.15]))
    assert told == (
        "the mean stability index of 4 features is 0.53, at most 0.15 in the training range: most "
        "in f1 of BTCUSDT 0.90, f2 of BTCUSDT 0.50, f3 of BTCUSDT 0.40"
    )


def test_one_broken_column_is_warned_of_by_itself():
    drift = psi(sample(5000), 200 + sample(720, seed=1))
    (told,) = drift_warnings(drifts([0.0] * 60 + [drift], [0.1]))
    assert "f60 of BTCUSDT has a stability index of" in told
    assert told.endswith("is the column broken?")


def test_the_stretches_of_the_training_range_are_kept(frame, provenance):
    for each in feature_drift(frame, provenance, recent=100):
        assert len(each.stretches) == 1
        assert each.usual == pytest.approx(each.stretches[0])
