"""Shape letters: T dates, R resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidInput
from flash_pipeline.evaluation.bootstrap import bootstrap_means, mean_deviations
from flash_pipeline.evaluation.statistics import stationary_weights


def means(values_T, block=5.0, resamples=4000, seed=0, **options):
    rng = np.random.default_rng(seed)
    return bootstrap_means(values_T, block=block, resamples=resamples, rng=rng, **options)


def autocorrelated(dates, memory=0.8, seed=1):
    rng = np.random.default_rng(seed)
    values_T = rng.normal(size=dates)
    for t in range(1, dates):
        values_T[t] += memory * values_T[t - 1]
    return values_T


def test_blocks_of_one_date_are_the_plain_bootstrap():
    values_T = np.random.default_rng(2).normal(3.0, 2.0, 400)
    found_R = means(values_T, block=1.0)
    assert found_R.mean() == pytest.approx(values_T.mean(), abs=0.01)
    assert found_R.std() == pytest.approx(values_T.std() / 20, rel=0.05)


def test_the_spread_is_that_of_the_resamples_drawn_date_by_date():
    values_T = autocorrelated(300)
    drawn_R = stationary_weights(300, 20, draws=4000).weights_RN @ values_T / 300
    found_R = means(values_T, block=20.0)
    assert found_R.std() == pytest.approx(drawn_R.std(), rel=0.05)
    np.testing.assert_allclose(
        np.quantile(found_R, [0.05, 0.5, 0.95]),
        np.quantile(drawn_R, [0.05, 0.5, 0.95]),
        atol=0.1 * drawn_R.std(),
    )


def test_longer_blocks_show_the_dependence_that_short_ones_miss():
    values_T = autocorrelated(2000)
    # The long-run deviation of an autoregression of 0.8 is 3 times that of its values.
    ratio = means(values_T, block=60.0).std() / means(values_T, block=1.0).std()
    assert 2.3 < ratio < 3.3


@settings(max_examples=25, deadline=None)
@given(
    dates=st.integers(1, 40),
    block=st.floats(1, 30),
    length=st.integers(1, 90),
    constant=st.floats(-1e6, 1e6),
)
def test_the_mean_of_a_constant_is_the_constant_whatever_the_blocks(dates, block, length, constant):
    found_R = means(np.full(dates, constant), block, 50, length=length)
    np.testing.assert_allclose(found_R, constant, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    dates=st.integers(2, 40),
    block=st.floats(1, 30),
    length=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_a_resample_is_made_of_as_many_dates_as_asked_for(dates, block, length, seed):
    # Of a series that is 1 at a date and 0 elsewhere the sum counts that date: a whole number.
    one_T = np.zeros(dates)
    one_T[0] = 1.0
    counts_R = means(one_T, block, 50, seed=seed, length=length) * length
    np.testing.assert_allclose(counts_R, np.round(counts_R), atol=1e-9)
    assert counts_R.min() > -1e-9
    assert counts_R.max() < length + 1e-9


def test_a_shorter_resample_spreads_wider():
    values_T = autocorrelated(2000)
    ratio = means(values_T, length=500).std() / means(values_T).std()
    assert ratio == pytest.approx(2.0, rel=0.1)


def test_equal_generators_give_equal_means_in_as_many_parts_as_it_takes():
    values_T = autocorrelated(300)
    np.testing.assert_array_equal(means(values_T), means(values_T))
    assert len(means(values_T, block=1.0, resamples=6001)) == 6001


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_a_series_that_is_empty_or_not_finite_is_refused(values):
    with pytest.raises(InvalidInput, match="expected at least one date and finite values"):
        means(np.array(values))


def by_chance(values_T, block, resamples=2000, seed=0):
    rng = np.random.default_rng(seed)
    return mean_deviations(values_T, block=block, resamples=resamples, rng=rng)


@pytest.mark.parametrize(("dates", "block"), [(96, 48), (400, 48), (4000, 48)])
def test_a_one_sided_test_of_independent_values_rejects_at_its_level_however_short(dates, block):
    rng = np.random.default_rng(3)
    trials = [rng.normal(size=dates) for _ in range(600)]
    level = np.mean(
        [(by_chance(values_T, block, 300) >= values_T.mean()).mean() < 0.05 for values_T in trials]
    )
    assert level == pytest.approx(0.05, abs=0.027), "three standard errors"


def test_the_plain_deviations_of_a_short_series_are_too_small():
    rng = np.random.default_rng(3)
    plain, corrected = [], []
    for _ in range(200):
        values_T = rng.normal(size=96)
        plain.append(means(values_T, 48, 300).std())
        corrected.append(np.quantile(by_chance(values_T, 48), 0.84))
    true = 1 / np.sqrt(96)
    assert np.mean(plain) < 0.75 * true
    assert np.mean(corrected) == pytest.approx(true, rel=0.25)


def test_a_long_series_needs_no_correction():
    values_T = autocorrelated(40_000)
    plain_R = means(values_T, 20.0) - values_T.mean()
    assert by_chance(values_T, 20.0, 4000).std() == pytest.approx(plain_R.std(), rel=0.05)
