"""Shape letters: N anchors, B blocks, K bars of a block, S symbols, F features."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.model import ModelConfig
from flash_pipeline.training.targets import (
    RmsScaler,
    SimpleReturns,
    TargetScaler,
    VolatilityScaler,
    anchor_volatility,
    fit_targets,
    in_units,
    volatility_of,
)

NAN = math.nan
MODEL = ModelConfig(n_symbols=2, n_features=5, d_model=8, n_heads=2, n_layers=1, d_ff=16)


def floats(*values):
    return np.array(values, np.float32)


def clustered(rows=4000, horizon=24, seed=0):
    """Return labels of a random walk whose volatility moves between calm and wild."""
    rng = np.random.default_rng(seed)
    sigma_NS = 0.01 * np.exp(rng.normal(0, 1, size=(rows, 2)))
    y_NS = sigma_NS * math.sqrt(horizon) * rng.normal(size=(rows, 2))
    return y_NS.astype(np.float32), sigma_NS.astype(np.float32)


def test_rms_targets_are_divided_by_their_root_mean_square_and_keep_their_mean():
    y_NS = floats([0.03, NAN], [0.04, 0.5])
    scaler = RmsScaler.fit(y_NS)
    assert scaler.std_S.tolist() == pytest.approx([math.sqrt(0.00125), 0.5])
    assert scaler.transform(y_NS, np.ones_like(y_NS))[:, 0].mean() > 0


@pytest.mark.parametrize("value", [0.0, NAN])
def test_targets_without_any_spread_keep_their_unit(value):
    y_NS = np.full((3, 1), value, np.float32)
    assert RmsScaler.fit(y_NS).std_S.tolist() == [1.0]
    assert VolatilityScaler.fit(y_NS, np.ones_like(y_NS), 4).std_S.tolist() == [1.0]


def test_volatility_targets_by_hand():
    scaler = VolatilityScaler(floats(2.0), floats(0.01), floats(0.03), horizon=4)
    targets_NS = scaler.transform(floats([0.4], [0.4], [0.4]), floats([0.1], [0.001], [NAN]))
    expected = [0.4 / (sigma * 2 * 2.0) for sigma in (0.1, 0.01, 0.03)]  # as told, floor, typical
    assert targets_NS.ravel().tolist() == pytest.approx(expected)


def test_volatility_targets_of_a_random_walk_have_one_scale_in_calm_and_wild_times():
    y_NS, sigma_NS = clustered()
    scaler = VolatilityScaler.fit(y_NS, sigma_NS, 24)
    targets_NS = scaler.transform(y_NS, sigma_NS)
    wild_NS = sigma_NS > np.median(sigma_NS)
    assert targets_NS[wild_NS].std() == pytest.approx(targets_NS[~wild_NS].std(), rel=0.05)
    assert y_NS[wild_NS].std() > 3 * y_NS[~wild_NS].std()
    np.testing.assert_allclose(scaler.std_S, 1, rtol=0.05)  # sigma * sqrt(h) said it all


def test_volatility_targets_have_a_root_mean_square_of_one_over_the_fit():
    y_NS, sigma_NS = clustered(100)
    sigma_NS[::7] = NAN
    y_NS[::5] = NAN
    targets_NS = VolatilityScaler.fit(3 * y_NS, sigma_NS, 24).transform(3 * y_NS, sigma_NS)
    np.testing.assert_allclose(np.nanmean(targets_NS**2, axis=0), 1, rtol=1e-5)


def test_a_dead_market_makes_no_enormous_target():
    y_NS, sigma_NS = clustered()
    scaler = VolatilityScaler.fit(y_NS, sigma_NS, 24)
    np.testing.assert_allclose(scaler.floor_S, np.quantile(sigma_NS, 0.01, axis=0), rtol=1e-5)
    dead = scaler.transform(floats(0.01, 0.01), floats(0.0, 1e-9))
    assert dead.tolist() == scaler.transform(floats(0.01, 0.01), scaler.floor_S).tolist()


@pytest.mark.parametrize("unknown", [NAN, math.inf, -math.inf])
def test_an_unknown_volatility_counts_as_the_median_of_the_training_range(unknown):
    y_NS, sigma_NS = clustered()
    scaler = VolatilityScaler.fit(y_NS, sigma_NS, 24)
    np.testing.assert_allclose(scaler.typical_S, np.median(sigma_NS, axis=0), rtol=1e-5)
    assert scaler.inverse(floats(1.0, 1.0), floats(unknown, unknown)).tolist() == pytest.approx(
        scaler.inverse(floats(1.0, 1.0), scaler.typical_S).tolist()
    )


def test_a_symbol_whose_volatility_is_never_known_takes_that_of_the_others():
    y_NS, sigma_NS = clustered()
    sigma_NS[:, 1] = NAN
    scaler = VolatilityScaler.fit(y_NS, sigma_NS, 24)
    assert scaler.typical_S[1] == scaler.typical_S[0]
    assert scaler.floor_S[1] == scaler.floor_S[0]


@pytest.mark.parametrize("value", [NAN, 0.0, -1.0])
def test_without_any_volatility_there_is_nothing_to_scale_by(value):
    with pytest.raises(InvalidConfig, match="expected the feature 'volatility'"):
        VolatilityScaler.fit(floats([0.1]), floats([value]), 24)


def test_simple_returns_by_hand():
    y_S = floats(math.log(1.1), math.log(0.5))
    assert SimpleReturns(1).transform(y_S, y_S).tolist() == pytest.approx([0.1, -0.5])
    assert SimpleReturns(10).transform(y_S, y_S).tolist() == pytest.approx([0.01, -0.05])


SCALERS = [
    RmsScaler(floats(0.1, 0.2)),
    VolatilityScaler(floats(1.1, 0.9), floats(0.001, 0.002), floats(0.01, 0.02), 24),
    SimpleReturns(24),
]
KINDS = [scaler.kind for scaler in SCALERS]


@pytest.mark.parametrize("scaler", SCALERS, ids=KINDS)
@given(
    y_NS=hnp.arrays(np.float32, (4, 2), elements=st.floats(-1, 1, width=32)),
    sigma_NS=hnp.arrays(
        np.float32, (4, 2), elements=st.floats(0, 1, width=32) | st.just(float("nan"))
    ),
)
def test_the_inverse_gives_the_labels_back(scaler, y_NS, sigma_NS):
    again_NS = scaler.inverse(scaler.transform(y_NS, sigma_NS), sigma_NS)
    assert again_NS.dtype == np.float32
    np.testing.assert_allclose(again_NS, y_NS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scaler", SCALERS, ids=KINDS)
@given(y=st.floats(-1, 1).map(lambda y: round(y, 9)), sigma=st.floats(0, 1, width=32))
def test_scaling_keeps_the_sign(scaler, y, sigma):
    targets_S = scaler.transform(floats(y, y), floats(sigma, sigma))
    assert np.sign(targets_S).tolist() == [np.sign(y)] * 2


@pytest.mark.parametrize("scaler", SCALERS, ids=KINDS)
def test_unknown_labels_stay_unknown(scaler):
    assert np.isnan(scaler.transform(floats(NAN, NAN), floats(0.01, NAN))).all()


@pytest.mark.parametrize("scaler", SCALERS, ids=KINDS)
def test_blocks_are_scaled_bar_by_bar(scaler):
    y_NS, sigma_NS = clustered(12)
    y_BKS, sigma_BKS = y_NS.reshape(3, 4, 2), sigma_NS.reshape(3, 4, 2)
    targets_BKS = scaler.transform(y_BKS, sigma_BKS)
    assert targets_BKS.dtype == np.float32
    assert targets_BKS.reshape(12, 2).tolist() == scaler.transform(y_NS, sigma_NS).tolist()


@pytest.mark.parametrize("scaler", SCALERS, ids=KINDS)
def test_a_target_scaler_survives_json(scaler):
    again = TargetScaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert type(again) is type(scaler)
    y_NS, sigma_NS = clustered(50)
    one_NS, other_NS = (s.transform(y_NS, sigma_NS) for s in (scaler, again))
    assert one_NS.tobytes() == other_NS.tobytes()


@pytest.mark.parametrize(
    ("change", "scaling", "kind"),
    [
        ({"head": "regression"}, "rms", "rms"),
        ({"head": "regression"}, "volatility", "volatility"),
        ({"head": "quantile"}, "volatility", "volatility"),
        ({"head": "direction"}, "volatility", "volatility"),
        ({"head": "allocation"}, "volatility", "simple"),
        ({"head": "allocation"}, "rms", "simple"),
    ],
)
def test_the_recipe_chooses_the_scaler_but_for_an_allocation_head(change, scaling, kind):
    scaler = fit_targets(dataclasses.replace(MODEL, **change), scaling, *clustered(50), 24)
    assert scaler.kind == kind


def test_an_allocation_head_is_taught_per_bar_under_dense_supervision_alone():
    last = dataclasses.replace(MODEL, head="allocation")
    dense = dataclasses.replace(last, supervision="dense", span="causal", positions="rotary")
    bars = [fit_targets(model, "rms", *clustered(50), 24).bars for model in (last, dense)]
    assert bars == [1, 24]


def test_the_volatility_is_the_catalogs_feature_of_each_symbol():
    x_SF = np.arange(10, dtype=np.float32).reshape(2, 5)
    assert volatility_of(x_SF, FEATURE_NAMES).tolist() == [1.0, 6.0]
    assert np.isnan(volatility_of(x_SF[:, :1], ("log_return",))).all()


def test_the_volatility_of_a_window_is_that_of_its_last_bar(frame):
    at = FEATURE_NAMES.index("volatility")
    expected_NS = np.stack([frame.window(n)[-1, :, at] for n in range(len(frame.anchor_N))])
    np.testing.assert_array_equal(anchor_volatility(frame), expected_NS)


@pytest.mark.parametrize(
    ("head", "expected"),
    [("regression", 0.04), ("quantile", 0.04), ("direction", 0.4), ("allocation", 0.4)],
)
def test_only_returns_are_told_in_log_returns(head, expected):
    model = dataclasses.replace(MODEL, head=head)
    told_S = in_units(model, RmsScaler(floats(0.1, 0.1)), floats(0.4, 0.4), floats(1, 1))
    assert told_S.tolist() == pytest.approx([expected] * 2)
