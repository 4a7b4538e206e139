"""Shape letters: N dates, C columns, R draws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.evaluation.statistics import (
    Resamples,
    block_length,
    bootstrap,
    correlation_t,
    drawn_values,
    mean_columns,
    overlap_t,
    ratio,
    stationary_weights,
)


def autoregressive(dates, persistence, seed):
    """Return a series of mean 0 in which a share of each value stays."""
    noise = np.random.default_rng(seed).normal(size=dates + 100)
    values = np.zeros_like(noise)
    for t in range(1, len(noise)):
        values[t] = persistence * values[t - 1] + noise[t]
    return values[100:]


@settings(max_examples=50, deadline=None)
@given(
    dates=st.integers(1, 200),
    block=st.integers(1, 60),
    draws=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_every_resample_has_as_many_dates_as_the_series(dates, block, draws, seed):
    weights_RN = stationary_weights(dates, block, draws=draws, seed=seed).weights_RN
    assert weights_RN.shape == (draws, dates)
    assert (weights_RN.sum(axis=1) == dates).all()


def test_equal_seeds_give_equal_resamples():
    first, second, other = (
        stationary_weights(50, 5, draws=20, seed=seed).weights_RN for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_dates_are_drawn_equally_often_those_at_the_ends_too():
    mean_N = stationary_weights(40, 8, draws=4000).weights_RN.mean(axis=0)
    np.testing.assert_allclose(mean_N, 1.0, atol=0.1)


def test_neighbours_stay_together_as_often_as_the_block_says():
    # Of weights w, E[(w_i - 1)(w_i+1 - 1)] / Var(w) is close to the share of kept neighbours.
    for block in (1, 4, 20):
        weights_RN = stationary_weights(400, block, draws=500).weights_RN.astype(float) - 1
        kept = (weights_RN[:, 1:] * weights_RN[:, :-1]).mean() / (weights_RN**2).mean()
        assert kept == pytest.approx(1 - 1 / block, abs=0.03)


def test_a_measure_of_a_resample_is_that_of_its_dates():
    values_N = np.array([1.0, 2.0, 4.0])
    resamples = Resamples(np.array([[3, 0, 0], [1, 1, 1], [0, 1, 2]], np.uint16), 1)
    drawn_R = drawn_values(mean_columns(values_N), ratio, resamples)
    np.testing.assert_allclose(drawn_R, [1.0, 7 / 3, 10 / 3])


def test_unknown_values_count_in_no_mean():
    values_N = np.array([1.0, math.nan, 4.0])
    resamples = Resamples(np.array([[1, 1, 1], [0, 3, 0]], np.uint16), 1)
    drawn_R = drawn_values(mean_columns(values_N), ratio, resamples)
    assert drawn_R[0] == 2.5
    assert math.isnan(drawn_R[1])


def test_draws_without_a_value_are_left_out_of_the_interval():
    values_N = np.array([5.0, math.nan])
    resamples = Resamples(np.array([[0, 2], [1, 1], [2, 0]], np.uint16), 1)
    found = bootstrap(mean_columns(values_N), ratio, resamples)
    assert (found.value, found.low, found.high) == (5.0, 5.0, 5.0)


def test_without_weights_there_is_a_value_and_no_interval():
    found = bootstrap(mean_columns(np.arange(4.0)), ratio, None)
    assert found.value == 1.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("persistence", [0.0, 0.6, 0.9])
def test_intervals_cover_the_mean_of_a_persistent_series_as_often_as_they_say(persistence):
    dates, block = 4000, round(10 / (1 - persistence))
    resamples = stationary_weights(dates, block, draws=400)
    covered = 0
    for seed in range(300):
        columns_N2 = mean_columns(autoregressive(dates, persistence, seed))
        found = bootstrap(columns_N2, ratio, resamples)
        covered += found.low <= 0 <= found.high
    assert covered / 300 == pytest.approx(0.95, abs=0.04), "three standard errors"


@pytest.mark.parametrize("dates", [200, 500])
def test_intervals_of_the_ic_of_a_persistent_null_cover_0_as_often_as_they_say(dates):
    """Both the forecasts and the labels are sums over a horizon, of two independent walks."""
    horizon, trials = 24, 400
    resamples = stationary_weights(dates, block_length(horizon, dates), draws=300)
    covered = plain = 0
    for seed in range(trials):
        noise = np.random.default_rng(seed).normal(size=(2, dates + horizon))
        sums = np.cumsum(noise, axis=1)
        pair = sums[:, horizon:] - sums[:, :dates]
        ranks = [np.argsort(np.argsort(values)) / dates for values in pair]
        centred = [(values - values.mean()) / values.std() for values in ranks]
        columns_N2 = mean_columns(centred[0] * centred[1])
        found = bootstrap(columns_N2, ratio, resamples)
        covered += found.low <= 0 <= found.high
        drawn_R = drawn_values(columns_N2, ratio, resamples)
        low, high = np.quantile(drawn_R, [0.025, 0.975])
        plain += low <= 0 <= high
    assert plain / trials < 0.92, "what percentiles alone would cover"
    assert 0.92 <= covered / trials <= 0.98


def test_blocks_too_short_for_the_dependence_are_too_sure():
    columns_N2 = mean_columns(autoregressive(1500, 0.9, 0))
    lengths = [
        (found.high - found.low)
        for block in (1, 100)
        for found in [bootstrap(columns_N2, ratio, stationary_weights(1500, block, draws=400))]
    ]
    assert lengths[1] > 2.5 * lengths[0]


def test_intervals_equal_those_of_arch():
    arch = pytest.importorskip("arch.bootstrap")
    values_N = autoregressive(600, 0.7, 1)
    theirs_R = arch.StationaryBootstrap(30, values_N, seed=7).apply(np.mean, 3000)[:, 0]
    resamples = stationary_weights(600, 30, draws=3000)
    ours_R = drawn_values(mean_columns(values_N), ratio, resamples)
    assert ours_R.std() == pytest.approx(theirs_R.std(), rel=0.06)
    assert ours_R.mean() == pytest.approx(theirs_R.mean(), abs=0.1 * theirs_R.std())
    np.testing.assert_allclose(
        np.quantile(ours_R, [0.025, 0.975]),
        np.quantile(theirs_R, [0.025, 0.975]),
        atol=0.2 * theirs_R.std(),
    )


@pytest.mark.parametrize(
    ("horizon", "dates", "block"), [(24, 11_000, 48), (1, 1_000, 10), (6, 10**6, 100), (1, 1, 2)]
)
def test_a_block_is_two_horizons_or_the_cube_root_of_the_dates(horizon, dates, block):
    assert block_length(horizon, dates) == block


def test_the_t_value_is_students_divided_by_the_root_of_the_horizon():
    # Mean 3, standard deviation sqrt(2.5), 5 values: t = 3 / sqrt(0.5).
    values_N = np.array([1.0, 2, 3, 4, 5, math.nan])
    assert overlap_t(values_N, 1) == pytest.approx(3 / math.sqrt(0.5))
    assert overlap_t(values_N, 4) == pytest.approx(1.5 / math.sqrt(0.5))


def test_the_corrected_t_value_of_overlapping_noise_is_about_standard_normal():
    horizon, found = 24, []
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(size=3000 + horizon)
        overlapping = np.convolve(noise, np.ones(horizon), "valid")
        found.append(overlap_t(overlapping, horizon))
    assert np.std(found) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0], [math.nan, 1.0]])
def test_the_t_value_of_too_little_is_nan(values):
    assert math.isnan(overlap_t(np.array(values), 2))


def test_the_t_value_of_a_correlation_is_fishers():
    # r = 0.5 of 27 pairs: 0.5 * sqrt(25 / 0.75).
    assert correlation_t(0.5, 27, 1) == pytest.approx(0.5 * math.sqrt(25 / 0.75))
    assert correlation_t(0.5, 27, 9) == pytest.approx(0.5 * math.sqrt(25 / 0.75) / 3)


@pytest.mark.parametrize(("correlation", "pairs"), [(0.5, 2), (1.0, 10), (math.nan, 10)])
def test_a_correlation_without_a_t_value_has_nan(correlation, pairs):
    assert math.isnan(correlation_t(correlation, pairs, 1))


@pytest.mark.parametrize("changes", [{"dates": 0}, {"block": 0}, {"draws": 0}])
def test_numbers_below_one_are_refused(changes):
    name = next(iter(changes))
    with pytest.raises(InvalidConfig, match=f"{name}=0: expected at least 1"):
        stationary_weights(**{"dates": 5, "block": 2, "draws": 3, **changes})


def test_weights_of_other_dates_are_refused():
    with pytest.raises(InvalidInput, match="weights of 5 dates for 4 dates"):
        drawn_values(mean_columns(np.zeros(4)), ratio, stationary_weights(5, 2, draws=3))


def test_a_level_out_of_bounds_is_refused():
    with pytest.raises(InvalidConfig, match="level=95: expected a share"):
        bootstrap(mean_columns(np.zeros(4)), ratio, None, level=95)
