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

# The inputs and results of the two papers' worked examples. No copy of the papers was at hand when
# these were written down, so nothing rests on them alone: below, the same values come out of the
# formulas written anew with other functions, and the formulas out of simulated returns.
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


def phi(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def phi_inverse(p):
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if phi(middle) < p else (low, middle)
    return low


@pytest.mark.parametrize("of", [FUND, CHOSEN])
def test_the_probability_is_that_of_the_formula_written_anew(of):
    s, skew, tails, n = of.sharpe_per_bar, of.skewness, of.raw_kurtosis, of.n_bars
    excess = tails - 3
    error = math.sqrt((1 + s**2 / 2 - skew * s + excess / 4 * s**2) / (n - 1))
    assert probabilistic_sharpe(of) == pytest.approx(phi(s / error), abs=1e-12)


@pytest.mark.parametrize("count", [2, 46, 100, 8_760])
def test_the_expected_best_is_that_of_the_formula_written_anew(count):
    gamma = np.euler_gamma
    most = (1 - gamma) * phi_inverse(1 - 1 / count) + gamma * phi_inverse(1 - 1 / count / math.e)
    assert expected_best_sharpe(Trials(count, VARIANCE)) == pytest.approx(
        math.sqrt(VARIANCE) * most, rel=1e-9
    )


def test_the_error_of_simulated_sharpe_ratios_is_that_of_the_raw_kurtosis():
    # An exponential distribution turned round has skewness -2 and kurtosis 9; mean and deviation 1.
    returns = 2 - np.random.default_rng(0).exponential(size=(4_000, 1_000))
    spread = np.std(returns.mean(axis=1) / returns.std(axis=1, ddof=1))

    def error(kurtosis):
        of = Moments(1.0, skewness=-2.0, raw_kurtosis=kurtosis, n_bars=1_000)
        # The benchmark that the ratio exceeds with a probability of one standard deviation.
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            above = probabilistic_sharpe(of, middle) > phi(1.0)
            low, high = (middle, high) if above else (low, middle)
        return 1.0 - low

    assert error(9.0) == pytest.approx(spread, rel=0.04)
    assert abs(error(9.0 - 3) / spread - 1) > 0.06


def test_worthless_strategies_pass_the_deflated_ratio_no_more_often_than_it_says():
    # 300 searches, each for the best of 30 worthless strategies over 250 bars.
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(300):
        tried = [moments(returns_T) for returns_T in rng.normal(0, 0.01, (30, 250))]
        best = max(tried, key=lambda of: of.sharpe_per_bar)
        trials = Trials.of(30, [of.sharpe_per_bar for of in tried], 250)
        passed += deflated_sharpe(best, trials) > 0.95
    assert passed / 300 < 0.05


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


def test_the_variance_is_that_of_the_known_ratios():
    trials = Trials.of(7, [0.01, math.nan, 0.03], n_bars=10_001)
    assert (trials.count, trials.sharpe_variance) == (7, pytest.approx(0.0002))


def test_with_fewer_than_two_known_ratios_the_variance_is_that_of_luck():
    luck = np.random.default_rng(0).normal(0, 0.01, (20_000, 101))
    spread = np.var(luck.mean(axis=1) / luck.std(axis=1, ddof=1))
    assert Trials.of(7, [0.01], n_bars=101).sharpe_variance == pytest.approx(spread, rel=0.05)


def test_a_similar_ratio_beside_the_own_one_does_not_end_the_deflation():
    chosen = Moments(0.03, skewness=0.0, raw_kurtosis=3.0, n_bars=5_000)
    alone, beside = (
        deflated_sharpe(chosen, Trials.of(200, known, chosen.n_bars))
        for known in ([0.03], [0.03, 0.0301])
    )
    assert beside == alone
    assert beside < 0.5 < 0.95 < probabilistic_sharpe(chosen)
