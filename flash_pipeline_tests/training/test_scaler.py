"""Shape letters: T bars, N windows, S symbols, F features."""

import json
import math

import numpy as np
import pytest

from flash_pipeline.training.scaler import FeatureScaler, TargetScaler

NAN = math.nan


def column(*values):
    return np.array(values, np.float32).reshape(-1, 1, 1)


def test_features_are_standardised_by_the_mean_and_deviation_of_the_fit_by_hand():
    scaler = FeatureScaler.fit(column(1.0, 2.0, 3.0, 6.0))
    assert scaler.mean_SF.tolist() == [[3.0]]
    assert scaler.std_SF[0, 0] == pytest.approx(math.sqrt(3.5))
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
    assert scaler.mean_SF.item() == 2.0
    assert scaler.std_SF.item() == 1.0


def test_unknown_values_become_the_mean():
    scaler = FeatureScaler.fit(column(1.0, 3.0))
    assert scaler.transform(column(NAN, 3.0)).ravel().tolist() == [0.0, 1.0]


def test_a_constant_feature_keeps_its_unit():
    scaler = FeatureScaler.fit(column(5.0, 5.0, 5.0))
    assert scaler.std_SF.item() == 1.0
    assert scaler.transform(column(5.0, 7.0)).ravel().tolist() == [0.0, 2.0]


def test_a_feature_that_is_never_known_stays_finite():
    scaler = FeatureScaler.fit(column(NAN, NAN))
    assert (scaler.mean_SF.item(), scaler.std_SF.item()) == (0.0, 1.0)
    assert scaler.transform(column(NAN, 0.5)).ravel().tolist() == [0.0, 0.5]


def test_an_outlier_is_clipped_at_ten_deviations():
    scaler = FeatureScaler.fit(column(-1.0, 1.0))
    assert scaler.transform(column(1e6, -1e6, 9.0)).ravel().tolist() == [10.0, -10.0, 9.0]


def test_a_tiny_spread_on_a_large_mean_is_measured_in_double_precision():
    x_TSF = column(*(1000 + np.arange(1000) % 2 / 8))
    assert FeatureScaler.fit(x_TSF).std_SF.item() == pytest.approx(1 / 16, rel=1e-5)


def test_scaled_features_are_float32():
    scaler = FeatureScaler.fit(column(1.0, 3.0))
    assert scaler.transform(np.zeros((4, 1, 1), np.float64)).dtype == np.float32


def test_a_feature_scaler_survives_json():
    scaler = FeatureScaler.fit(np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32))
    again = FeatureScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.mean_SF.dtype == again.std_SF.dtype == np.float32
    assert again.mean_SF.tobytes() == scaler.mean_SF.tobytes()
    assert again.std_SF.tobytes() == scaler.std_SF.tobytes()


def test_targets_are_divided_by_their_root_mean_square_and_keep_their_mean():
    y_NS = np.array([[0.03, NAN], [0.04, 0.5]], np.float32)
    scaler = TargetScaler.fit(y_NS)
    assert scaler.std_S.tolist() == pytest.approx([math.sqrt(0.00125), 0.5])
    assert scaler.transform(y_NS)[:, 0].mean() > 0


def test_the_inverse_gives_the_targets_back():
    y_NS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    scaler = TargetScaler.fit(y_NS)
    np.testing.assert_allclose(scaler.inverse(scaler.transform(y_NS)), y_NS, rtol=1e-6)


def test_unknown_targets_stay_unknown():
    scaler = TargetScaler.fit(np.array([[0.1]], np.float32))
    assert np.isnan(scaler.transform(np.array([NAN], np.float32))).all()


@pytest.mark.parametrize("value", [0.0, NAN])
def test_targets_without_any_spread_keep_their_unit(value):
    assert TargetScaler.fit(np.full((3, 1), value, np.float32)).std_S.tolist() == [1.0]


def test_a_target_scaler_survives_json():
    scaler = TargetScaler(np.array([0.1, 0.2], np.float32))
    again = TargetScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.std_S.tobytes() == scaler.std_S.tobytes()
