"""What each baseline is known by: hand-made cases, and the planted market.

Shape letters: N windows, S symbols, K columns, L bars.
"""

import dataclasses
import sys

import numpy as np
import pytest
import torch

from flash_pipeline.errors import ModelError
from flash_pipeline.evaluation.quality import rank_ic
from flash_pipeline.training.baselines import Boosting, DLinear, LastValue, Ridge, Seasonal, Zero
from flash_pipeline.training.baselines.dlinear import KERNEL, DLinearModel, trend_of
from flash_pipeline.training.baselines.ridge import PENALTIES, _solutions
from flash_pipeline.windows import SplitConfig, chronological_split


@pytest.fixture(scope="session")
def planted(make_panel, cut):
    """Return windows of a market whose next return the last bar tells, and their split."""
    frame = cut(make_panel(1500))
    return frame, chronological_split(frame, SplitConfig())


@pytest.fixture(scope="session")
def skill(planted):
    """Return a function that fits a kind and gives its rank IC over the test range."""
    frame, split = planted

    def skill(kind):
        told = kind.fit(frame, split).predict(frame, split.test_N).value_NS
        return rank_ic(told, frame.label_NS[split.test_N])

    return skill


def test_zero_predicts_no_change(planted):
    frame, split = planted
    assert not Zero.fit(frame, split).predict(frame, split.test_N).value_NS.any()


def test_the_last_value_is_the_return_of_as_many_bars_as_the_horizon(make_panel, cut):
    panel = make_panel()
    frame = cut(panel, horizon=3)
    split = chronological_split(frame, SplitConfig())
    told = LastValue.fit(frame, split).predict(frame, np.array([10])).value_NS[0]
    end = 10 + frame.lookback
    np.testing.assert_allclose(told, panel.x_TSF[end - 3 : end, :, 0].sum(axis=0), rtol=1e-6)


def test_the_last_value_of_a_window_shorter_than_the_horizon_takes_all_of_it(make_panel, cut):
    panel = make_panel()
    frame = cut(panel, horizon=20)
    split = chronological_split(frame, SplitConfig())
    told = LastValue.fit(frame, split).predict(frame, np.array([10])).value_NS[0]
    bars = panel.x_TSF[10 : 10 + frame.lookback, :, 0]
    np.testing.assert_allclose(told, bars.sum(axis=0), rtol=1e-6)


def test_the_seasonal_mean_is_that_of_the_training_labels_at_the_same_hour_of_week(make_panel, cut):
    frame = cut(make_panel(1000))
    split = chronological_split(frame, SplitConfig())
    told = Seasonal.fit(frame, split).predict(frame, split.test_N[:1]).value_NS[0]
    weeks_N = (frame.made_at_N - frame.made_at_N[split.test_N[0]]) % (168 * 3_600_000) == 0
    same = split.train_N[weeks_N[split.train_N]]
    assert len(same) in (3, 4, 5)
    np.testing.assert_allclose(told, frame.label_NS[same].mean(axis=0), rtol=1e-5)


def test_an_hour_that_was_never_trained_on_is_predicted_as_no_change(frame, split):
    hour_N = frame.made_at_N // 3_600_000 % 168
    early_N = split.train_N[:100]  # of one week the first hundred hours
    model = Seasonal.fit(frame, dataclasses.replace(split, train_N=early_N))
    fresh_N = np.flatnonzero(~np.isin(hour_N, hour_N[early_N]))
    assert len(fresh_N)
    assert not model.predict(frame, fresh_N).value_NS.any()


def test_ridge_solves_the_normal_equations():
    rng = np.random.default_rng(0)
    x_MK = rng.normal(size=(200, 4)) + 3.0
    y_M = x_MK @ np.array([1.0, -2.0, 0.5, 0.0]) + rng.normal(size=200) + 7.0
    weight_AK, intercept_A = _solutions(x_MK, y_M)
    centred_MK = x_MK - x_MK.mean(axis=0)
    for penalty, weight_K, intercept in zip(PENALTIES, weight_AK, intercept_A, strict=True):
        gram_KK = centred_MK.T @ centred_MK / 200 + penalty * np.eye(4)
        expected = np.linalg.solve(gram_KK, centred_MK.T @ (y_M - y_M.mean()) / 200)
        np.testing.assert_allclose(weight_K, expected, rtol=1e-9, atol=1e-12)
        assert intercept == pytest.approx(y_M.mean() - x_MK.mean(axis=0) @ expected)


def test_ridge_chooses_a_strong_penalty_where_there_is_nothing_to_learn(make_panel, cut):
    frame = cut(make_panel(1500, signal=0.0))
    noise = Ridge.fit(frame, chronological_split(frame, SplitConfig()))
    frame = cut(make_panel(1500))
    signal = Ridge.fit(frame, chronological_split(frame, SplitConfig()))
    assert noise.penalty > signal.penalty
    assert abs(noise.weight_K).max() < 0.3 * abs(signal.weight_K).max()


@pytest.mark.parametrize("kind", [Ridge, Boosting, DLinear])
def test_what_learns_finds_the_planted_signal(skill, kind):
    assert skill(kind) > 0.5


def test_boosting_stops_early_where_there_is_nothing_to_learn(make_panel, cut, planted):
    noise = cut(make_panel(1500, signal=0.0))
    bored = Boosting.fit(noise, chronological_split(noise, SplitConfig()))
    assert bored.rounds < Boosting.fit(*planted).rounds


def test_a_missing_library_is_named_with_its_cure(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ModelError, match=r"LightGBM cannot be loaded.*libgomp1"):
        Boosting.fit(*planted)


def test_the_trend_is_the_moving_average_with_repeated_ends():
    x_NL = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 40)))
    half = (KERNEL - 1) // 2
    padded = np.pad(x_NL.numpy(), ((0, 0), (half, half)), mode="edge")
    expected = [[padded[n, t : t + KERNEL].mean() for t in range(40)] for n in range(2)]
    np.testing.assert_allclose(trend_of(x_NL).numpy(), expected, rtol=1e-12)


def test_the_merged_layer_is_the_papers_two():
    rng = np.random.default_rng(0)
    x_NLS = torch.from_numpy(rng.normal(size=(3, 40, 2)).astype(np.float32))
    model = DLinearModel(40)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape).astype(np.float32)))
        found_NS = model(x_NLS)
        x_ML = x_NLS.transpose(1, 2).reshape(-1, 40)
        trend_ML = trend_of(x_ML)
        two_M = trend_ML @ model.trend + (x_ML - trend_ML) @ model.rest + model.bias
    torch.testing.assert_close(found_NS.reshape(-1), two_M, rtol=1e-4, atol=1e-4)
