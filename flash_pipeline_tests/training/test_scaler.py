"""Shape letters: T bars, S symbols, F features."""

import json
import math

import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.training.scaler import FeatureScaler

NAN = math.nan


def column(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def test_features_are_standardised_by_the_mean_and_deviation_of_the_fit_by_hand():
    scaler = FeatureScaler.fit(column(1.0, 2.0, 3.0, 6.0))
    assert scaler.centre_SF.tolist() == [[3.0]]
    assert scaler.scale_SF[0, 0] == pytest.approx(math.sqrt(3.5))
    assert scaler.transform(column(6.0)).item() == pytest.approx(3 / math.sqrt(3.5))


def test_each_symbol_and_feature_has_its_own_scale():
    x_TSF = np.random.default_rng(0).normal(size=(500, 2, 3)).astype(np.float32)
    x_TSF *= np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    z_TSF = FeatureScaler.fit(x_TSF).transform(x_TSF)
    np.testing.assert_allclose(z_TSF.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(z_TSF.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("unknown", [NAN, math.inf, -math.inf])
def test_unknown_values_are_left_out_of_the_fit(unknown):
    scaler = FeatureScaler.fit(column(1.0, unknown, 3.0))
    assert scaler.centre_SF.item() == 2.0
    assert scaler.scale_SF.item() == 1.0


def test_unknown_values_become_the_mean():
    scaler = FeatureScaler.fit(column(1.0, 3.0))
    assert scaler.transform(column(NAN, 3.0)).ravel().tolist() == [0.0, 1.0]


def test_a_constant_feature_keeps_its_unit():
    scaler = FeatureScaler.fit(column(5.0, 5.0, 5.0))
    assert scaler.scale_SF.item() == 1.0
    assert scaler.transform(column(5.0, 7.0)).ravel().tolist() == [0.0, 2.0]


def test_a_feature_that_is_never_known_stays_finite():
    scaler = FeatureScaler.fit(column(NAN, NAN))
    assert (scaler.centre_SF.item(), scaler.scale_SF.item()) == (0.0, 1.0)
    assert scaler.transform(column(NAN, 0.5)).ravel().tolist() == [0.0, 0.5]


def test_an_outlier_is_clipped_at_ten_deviations():
    scaler = FeatureScaler.fit(column(-1.0, 1.0))
    assert scaler.transform(column(1e6, -1e6, 9.0)).ravel().tolist() == [10.0, -10.0, 9.0]


def test_a_tiny_spread_on_a_large_mean_is_measured_in_double_precision():
    x_TSF = column(*(1000 + np.arange(1000) % 2 / 8))
    assert FeatureScaler.fit(x_TSF).scale_SF.item() == pytest.approx(1 / 16, rel=1e-5)


def test_scaled_features_are_float32():
    scaler = FeatureScaler.fit(column(1.0, 3.0))
    assert scaler.transform(np.zeros((4, 1, 1), np.float64)).dtype == np.float32


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_a_feature_scaler_survives_json(kind):
    x_TSF = np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32)
    scaler = FeatureScaler.fit(x_TSF, kind)
    again = FeatureScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.kind == kind
    assert again.centre_SF.dtype == again.scale_SF.dtype == np.float32
    assert again.centre_SF.tobytes() == scaler.centre_SF.tobytes()
    assert again.scale_SF.tobytes() == scaler.scale_SF.tobytes()


def test_robust_scaling_takes_median_and_quartiles_by_hand():
    scaler = FeatureScaler.fit(column(0.0, 1.0, 2.0, 3.0, 400.0), "robust")
    assert scaler.centre_SF.item() == 2.0
    assert scaler.scale_SF.item() == pytest.approx((3 - 1) / 1.3489795)
    assert scaler.transform(column(3.0)).item() == pytest.approx(1.3489795 / 2)


def test_robust_scaling_agrees_with_the_standard_one_on_bell_shaped_values():
    x_TSF = np.random.default_rng(0).normal(3, 2, size=(20_000, 1, 1)).astype(np.float32)
    standard, robust = (FeatureScaler.fit(x_TSF, kind) for kind in ("standard", "robust"))
    assert robust.centre_SF.item() == pytest.approx(standard.centre_SF.item(), abs=0.05)
    assert robust.scale_SF.item() == pytest.approx(standard.scale_SF.item(), rel=0.02)


def test_robust_scaling_is_hardly_moved_by_a_few_extreme_bars():
    x_TSF = np.random.default_rng(0).normal(size=(1000, 1, 1)).astype(np.float32)
    wild_TSF = x_TSF.copy()
    wild_TSF[:5] = 1e6
    calm, wild = (FeatureScaler.fit(x, "robust") for x in (x_TSF, wild_TSF))
    np.testing.assert_allclose(wild.scale_SF, calm.scale_SF, rtol=0.02)
    assert FeatureScaler.fit(wild_TSF).scale_SF > 1e4


def test_robust_scaling_leaves_unknown_values_out():
    assert FeatureScaler.fit(column(1.0, NAN, 2.0, math.inf, 3.0), "robust").centre_SF.item() == 2.0


@pytest.mark.parametrize(
    ("values", "centre", "scale"),
    [
        ((5.0, 5.0, 5.0), 5.0, 1.0),
        ((NAN, NAN), 0.0, 1.0),
        # Half of the values and more are equal: no range, so the deviation.
        ((0.0, 0.0, 0.0, 0.0, 5.0), 0.0, 2.0),
    ],
)
def test_robust_scaling_of_values_without_a_range(values, centre, scale):
    scaler = FeatureScaler.fit(column(*values), "robust")
    assert (scaler.centre_SF.item(), scaler.scale_SF.item()) == (centre, pytest.approx(scale))


@pytest.mark.parametrize("kind", ["standard", "robust"])
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_value_counts_as_unknown(kind, value):
    scaler = FeatureScaler.fit(column(1.0, 2.0, 3.0), kind)
    assert scaler.transform(column(value)).item() == 0.0


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidConfig, match="feature scaling is 'minmax'"):
        FeatureScaler.fit(column(1.0), "minmax")
