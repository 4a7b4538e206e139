import numpy as np
import pytest

from flash_pipeline.backtest import (
    allocation_weights,
    capped,
    direction_weights,
    hold_cohorts,
    quantile_weights,
    regression_weights,
    simulate,
)
from flash_pipeline.errors import InvalidConfig, InvalidInput


def test_a_regression_is_sized_by_its_scale_and_not_by_tanh_of_ten_times_it():
    # Hourly forecasts of a few basis points: tanh(10 * pred) would hardly take a position.
    pred_TS = np.array([[0.0004, -0.0001], [0.01, 0.0]], dtype=np.float32)
    weights_TS = regression_weights(pred_TS, 0.0002)
    np.testing.assert_allclose(weights_TS, [[0.5, -0.125], [0.5, 0.0]], rtol=1e-6)
    assert weights_TS.dtype == np.float64


def test_a_regression_does_not_depend_on_the_unit_of_the_prediction():
    pred_TS = np.random.default_rng(0).normal(size=(5, 3))
    np.testing.assert_allclose(
        regression_weights(pred_TS, 1.0), regression_weights(pred_TS * 1e-4, 1e-4)
    )


def test_each_symbol_may_have_a_scale_of_its_own():
    weights_TS = regression_weights(np.array([[1.0, 1.0]]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(weights_TS, [[0.25, 0.125]])


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.array([1.0, 0.0])])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(InvalidConfig, match="scale is"):
        regression_weights(np.zeros((2, 2)), scale)


def test_a_probability_of_one_half_takes_no_position():
    np.testing.assert_allclose(
        direction_weights(np.array([[0.5, 1.0, 0.0, 0.75]])) * 4, [[0, 1, -1, 0.5]]
    )


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.inf])
def test_a_logit_is_no_probability(bad):
    with pytest.raises(InvalidInput, match="probability at bar 1, symbol 0 is"):
        direction_weights(np.array([[0.5], [bad]]))


def test_a_median_is_sized_by_half_its_spread():
    median_TS = np.array([[0.01, -0.01, 0.05, 0.0]])
    spread_TS = np.array([[0.04, 0.08, 0.04, 0.04]])
    weights_TS = quantile_weights(median_TS, spread_TS)
    np.testing.assert_allclose(weights_TS * 4, [[0.5, -0.25, 1.0, 0.0]])


def test_a_median_without_a_spread_takes_no_position():
    assert quantile_weights(np.array([[0.1, -0.1]]), np.zeros((1, 2))).tolist() == [[0.0, 0.0]]


def test_a_spread_is_not_negative_and_belongs_to_its_median():
    with pytest.raises(InvalidInput, match=r"spread at bar 0, symbol 0 is -0.1"):
        quantile_weights(np.array([[0.1]]), np.array([[-0.1]]))
    with pytest.raises(InvalidInput, match=r"shape \(2, 1\): expected the medians', \(1, 2\)"):
        quantile_weights(np.zeros((1, 2)), np.zeros((2, 1)))


def test_an_allocation_is_taken_as_it_is_up_to_its_cap():
    wanted_TS = np.array([[0.5, -0.25], [1.0, -1.0]])
    np.testing.assert_allclose(allocation_weights(wanted_TS), [[0.5, -0.25], [0.5, -0.5]])
    np.testing.assert_allclose(allocation_weights(wanted_TS, 2.0), wanted_TS)


def test_an_allocation_beyond_one_by_rounding_alone_is_taken():
    assert allocation_weights(np.array([[1.0000001]], np.float32)).tolist() == [[1.0]]
    with pytest.raises(InvalidInput, match=r"allocation at bar 0, symbol 0 is 1.1"):
        allocation_weights(np.array([[1.1]]))


@pytest.mark.parametrize("cap", [0.0, -1.0, np.nan, np.inf])
def test_a_gross_cap_is_positive(cap):
    with pytest.raises(InvalidConfig, match="gross_cap is"):
        allocation_weights(np.zeros((1, 1)), cap)


def test_no_prediction_takes_no_position():
    nan_TS = np.array([[np.nan, 1.0]])
    for weights_TS in (
        regression_weights(nan_TS, 1.0),
        direction_weights(nan_TS),
        allocation_weights(nan_TS),
        quantile_weights(nan_TS, np.ones((1, 2))),
    ):
        assert weights_TS[0, 0] == 0
        assert weights_TS[0, 1] > 0


def test_predictions_need_a_symbol_axis():
    with pytest.raises(InvalidInput, match=r"shape \(3,\)"):
        allocation_weights(np.zeros(3))


def test_cohorts_average_the_signals_alive_and_deploy_gradually():
    weights_TS = np.array([[1.0], [0.0], [-1.0], [1.0], [1.0]])
    held_TS = hold_cohorts(weights_TS, 2)
    assert held_TS[:, 0].tolist() == [0.5, 0.5, -0.5, 0.0, 1.0]


def test_cohorts_never_hold_more_than_their_signals():
    weights_TS = regression_weights(np.random.default_rng(0).normal(size=(200, 4)), 0.01)
    assert np.abs(hold_cohorts(weights_TS, 24)).sum(axis=1).max() <= 1 + 1e-12


def test_cohorts_that_have_all_ended_leave_exactly_nothing():
    weights_TS = np.zeros((60, 1))
    weights_TS[:30] = np.random.default_rng(0).uniform(-1, 1, (30, 1))
    assert (hold_cohorts(weights_TS, 24)[53:] == 0).all()


def test_a_horizon_longer_than_the_history_still_divides_by_the_horizon():
    assert hold_cohorts(np.ones((2, 1)), 4)[:, 0].tolist() == [0.25, 0.5]


@pytest.mark.parametrize("horizon", [0, -1])
def test_a_horizon_below_one_bar_is_refused(horizon):
    with pytest.raises(InvalidConfig, match=f"horizon is {horizon}"):
        hold_cohorts(np.ones((2, 1)), horizon)


def test_cohorts_refuse_nan():
    with pytest.raises(InvalidInput, match="NaN"):
        hold_cohorts(np.array([[np.nan]]), 2)


def test_a_day_ahead_forecast_is_earned_once_and_not_at_every_hour(make_prices, free):
    # A constant drift of 0.1 % a bar and a perfect forecast of the 2.4 % of the next 24 bars.
    # Booking that at every bar, as the chapter did, would compound to 1.024 ** 96.
    level_T = 100 * 1.001 ** np.arange(97)
    signal_TS = regression_weights(np.full((96, 1), 1.001**24 - 1), 0.005)
    result = simulate(hold_cohorts(signal_TS, 24), make_prices(level_T[:-1], level_T[1:]), free)
    market = level_T[-1] / level_T[0]
    deployed_T = np.minimum(np.arange(1, 96) / 24, 1)
    assert result.equity_T[-1] == pytest.approx(np.prod(1 + 0.001 * deployed_T))
    assert result.equity_T[-1] < market < 1.024**96 / 5


def test_capped_weights_are_within_the_caps_and_keep_their_signs():
    weights_TS = np.random.default_rng(0).normal(0, 1, (200, 4))
    cut_TS = capped(weights_TS, gross_cap=1.5, symbol_cap=0.6)
    assert np.abs(cut_TS).max() <= 0.6
    assert np.abs(cut_TS).sum(axis=1).max() <= 1.5 + 1e-12
    assert (np.sign(cut_TS) == np.sign(weights_TS)).all()


def test_weights_within_the_caps_are_left_alone():
    weights_TS = np.array([[0.2, -0.3], [0.0, 0.0]])
    assert capped(weights_TS, gross_cap=1.0, symbol_cap=0.5).tolist() == weights_TS.tolist()


def test_a_cap_that_is_no_positive_number_and_weights_of_nan_are_refused():
    with pytest.raises(InvalidConfig, match="symbol_cap is 0"):
        capped(np.zeros((1, 1)), gross_cap=1.0, symbol_cap=0)
    with pytest.raises(InvalidInput, match="NaN"):
        capped(np.array([[np.nan]]), gross_cap=1.0)
