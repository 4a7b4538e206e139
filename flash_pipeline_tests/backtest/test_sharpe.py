import math

import numpy as np
import pytest

from flash_pipeline.backtest.sharpe import (
    Moments,
    Trials,
    deflated_sharpe,
    expected_best_sharpe,
    moments,
    probabilistic_sharpe,
)
from flash_pipeline.errors import InvalidInput

# Bailey and López de Prado (2012): 24 months at 0.458 a month.
FUND = Moments(0.458, skewness=-2.448, raw_kurtosis=10.164, n_bars=24)
# Bailey and López de Prado (2014): 1,250 days at 2.5 a year of 250.
CHOSEN = Moments(2.5 / math.sqrt(250), skewness=-3.0, raw_kurtosis=10.0, n_bars=1_250)
VARIANCE = 0.5 / 250


def test_the_example_of_the_paper_on_the_probabilistic_sharpe_ratio():
    normal = Moments(0.458, skewness=0.0, raw_kurtosis=3.0, n_bars=24)
    assert round(probabilistic_sharpe(normal), 3) == 0.982
    assert round(probabilistic_sharpe(FUND), 3) == 0.913


def test_the_excess_kurtosis_would_flatter_that_fund():
    excess = Moments(0.458, skewness=-2.448, raw_kurtosis=10.164 - 3, n_bars=24)
    assert probabilistic_sharpe(excess) > 0.919


def test_the_example_of_the_paper_on_the_deflated_sharpe_ratio():
    assert round(expected_best_sharpe(Trials(100, VARIANCE)), 4) == 0.1132
    assert round(deflated_sharpe(CHOSEN, Trials(100, VARIANCE)), 4) == 0.9004
    assert round(deflated_sharpe(CHOSEN, Trials(46, VARIANCE)), 4) == 0.9505
    normal = Moments(CHOSEN.sharpe_per_bar, 0.0, 3.0, 1_250)
    assert round(deflated_sharpe(normal, Trials(88, VARIANCE)), 4) == 0.9505


def test_the_expected_best_is_that_of_simulated_worthless_strategies():
    best = np.random.default_rng(0).normal(0, 0.1, (20_000, 50)).max(axis=1).mean()
    assert expected_best_sharpe(Trials(50, 0.01)) == pytest.approx(best, rel=0.02)


def test_one_trial_is_not_deflated():
    assert deflated_sharpe(FUND, Trials(1, 0.3)) == probabilistic_sharpe(FUND)


def test_the_moments_of_a_vector_worked_out_by_hand():
    # Mean 1, deviations -1, -1, -1, 3.
    found = moments(np.array([0.0, 0.0, 0.0, 4.0]))
    assert found.sharpe_per_bar == pytest.approx(1 / 2)
    assert found.skewness == pytest.approx((27 - 3) / 4 / 3**1.5)
    assert found.raw_kurtosis == pytest.approx((81 + 3) / 4 / 9)


def test_the_kurtosis_of_normal_returns_is_3_and_not_0():
    found = moments(np.random.default_rng(0).normal(0, 0.01, 200_000))
    assert found.raw_kurtosis == pytest.approx(3, abs=0.05)


def test_returns_without_volatility_have_no_probability():
    assert math.isnan(probabilistic_sharpe(moments(np.full(10, 0.01))))


def test_impossible_moments_have_no_probability():
    assert math.isnan(probabilistic_sharpe(Moments(1.0, skewness=5.0, raw_kurtosis=1, n_bars=9)))


@pytest.mark.parametrize(("trials", "variance"), [(0, 0.1), (5, -0.1), (5, math.nan)])
def test_no_trials_or_a_negative_variance_are_refused(trials, variance):
    with pytest.raises(InvalidInput, match="expected"):
        Trials(trials, variance)
