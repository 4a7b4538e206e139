"""Scaling by every option knows the training range alone.

Shape letters: T bars, N windows, S symbols, F features.
"""

import dataclasses

import numpy as np
import pytest
import torch

from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.targets import anchor_volatility
from flash_pipeline.training.trainer import fit_scalers, train
from flash_pipeline.windows import SplitConfig, chronological_split

CPU = torch.device("cpu")
VOLATILE = {"feature_scaling": "robust", "target_scaling": "volatility"}


@pytest.fixture(scope="module")
def market(make_panel):
    """Return a panel whose volatility is positive, as a real one is."""
    panel = make_panel()
    x_TSF = panel.x_TSF.copy()
    x_TSF[:, :, 1] = 0.01 * np.exp(0.5 * x_TSF[:, :, 1])
    return dataclasses.replace(panel, x_TSF=x_TSF)


@pytest.fixture(scope="module")
def clean_and_spoiled(market, cut):
    """Return windows, the same with every value after the training range changed, and the split."""
    clean = cut(market)
    split = chronological_split(clean, SplitConfig())
    later_T = market.start_time_T >= clean.label_end_N[split.train_N[-1]]
    rng = np.random.default_rng(666)
    x_TSF, close_TS = market.x_TSF.copy(), market.close_TS.copy()
    x_TSF[later_T] = rng.lognormal(3, 1, x_TSF[later_T].shape)
    close_TS[later_T] = rng.uniform(1, 1000, close_TS[later_T].shape)
    return clean, cut(dataclasses.replace(market, x_TSF=x_TSF, close_TS=close_TS)), split


@pytest.mark.parametrize("head", ["regression", "quantile", "direction", "allocation"])
@pytest.mark.parametrize("features", ["standard", "robust"])
@pytest.mark.parametrize("targets", ["rms", "volatility"])
def test_no_scaler_knows_what_comes_after_the_training_range(
    clean_and_spoiled, make_recipe, head, features, targets
):
    clean, spoiled, split = clean_and_spoiled
    recipe = make_recipe(head=head, feature_scaling=features, target_scaling=targets)
    one, other = (fit_scalers(frame, split, recipe) for frame in (clean, spoiled))
    assert (clean.y_BKS != spoiled.y_BKS).any()
    assert [scaler.to_dict() for scaler in one] == [scaler.to_dict() for scaler in other]


@pytest.mark.parametrize("head", ["regression", "quantile"])
def test_no_prediction_knows_a_later_volatility(clean_and_spoiled, make_recipe, head):
    clean, spoiled, split = clean_and_spoiled
    # One epoch: the validation range has no checkpoint to choose from.
    recipe = make_recipe(head=head, epochs=1, **VOLATILE)
    one, other = (train(frame, split, recipe, device=CPU).bundle for frame in (clean, spoiled))
    earlier_N = np.flatnonzero(clean.made_at_N <= clean.label_end_N[split.train_N[-1]])
    told = [
        Predictor(bundle, CPU).predict(frame.batch(earlier_N)).tobytes()
        for bundle, frame in ((one, clean), (other, spoiled))
    ]
    assert told[0] == told[1]


def test_what_was_learned_on_volatility_targets_is_told_in_log_returns(market, cut, make_recipe):
    frame = cut(market)
    split = chronological_split(frame, SplitConfig())
    recipe = make_recipe(epochs=8, dropout=0.0, **VOLATILE)
    bundle = train(frame, split, recipe, device=CPU).bundle
    assert bundle.targets.kind == "volatility"
    told_NS = Predictor(bundle, CPU).predict(frame.batch(split.test_N))
    labels_NS = frame.label_NS[split.test_N]
    assert ((labels_NS - told_NS) ** 2).mean() < 0.7 * (labels_NS**2).mean()


def test_the_targets_of_every_bar_of_a_block_are_those_of_the_windows(market, cut, make_recipe):
    frame = cut(market)
    split = chronological_split(frame, SplitConfig())
    _, targets = fit_scalers(frame, split, make_recipe(**VOLATILE))
    y_BKS = targets.transform(frame.y_BKS, frame.x_BKSF[..., 1])
    last_N = frame.offset_N + frame.lookback - 1
    by_window_NS = targets.transform(frame.label_NS, anchor_volatility(frame))
    np.testing.assert_array_equal(y_BKS[frame.block_N, last_N], by_window_NS)
