from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.backtest import Prices
from flash_pipeline.errors import InvalidInput


def test_fewer_than_two_bars_are_refused(make_prices):
    with pytest.raises(InvalidInput, match="1 bars given"):
        make_prices([1.0], [1.0])


def test_closes_of_another_shape_are_refused(make_prices):
    with pytest.raises(InvalidInput, match=r"close_TS has shape \(2, 1\)"):
        make_prices(np.ones((3, 1)), np.ones((2, 1)))


@pytest.mark.parametrize("times", [[0, 1, 3], [0, 0, 0], [2, 1, 0], [0, 2, 1]])
def test_bars_off_an_even_grid_are_refused(times):
    with pytest.raises(InvalidInput, match=r"bar \d .* expected even steps"):
        Prices(np.array(times), np.ones((3, 1)), np.ones((3, 1)), ("AA",))


def test_holes_are_carried_forward_from_the_past_alone(make_prices):
    nan = np.nan
    prices = make_prices([nan, 1, nan, 0, 9], [nan, 2, nan, 5, 8])
    filled = prices.carried_forward()
    np.testing.assert_array_equal(filled.open_TS[:, 0], [nan, 1, 2, 2, 9])
    np.testing.assert_array_equal(filled.close_TS[:, 0], [nan, 2, 2, 2, 8])
    assert filled.real_TS[:, 0].tolist() == [False, True, False, False, True]


def test_filling_holes_again_forgets_none(make_prices):
    once = make_prices([1, np.nan, 9], [2, np.nan, 8]).carried_forward()
    again = once.carried_forward()
    np.testing.assert_array_equal(again.real_TS, once.real_TS)
    np.testing.assert_array_equal(again.open_TS, once.open_TS)


def test_a_symbol_that_is_listed_later_has_no_hole(make_prices):
    assert make_prices([np.nan, 1, 2], [np.nan, 1, 2]).carried_forward().real_TS is None


def test_a_hole_has_no_range_and_keeps_its_turnover(make_prices):
    nan = np.nan
    plain = make_prices([1, nan, 9], [2, nan, 8])
    low_TS, high_TS, turnover_TS = (
        np.array([[a], [nan], [b]]) for a, b in ((1, 7), (3, 9), (5, 6))
    )
    prices = replace(plain, low_TS=low_TS, high_TS=high_TS, turnover_TS=turnover_TS)
    filled = prices.carried_forward()
    assert filled.low_TS[:, 0].tolist() == [1, 2, 7]
    assert filled.high_TS[:, 0].tolist() == [3, 2, 9]
    assert np.isnan(filled.turnover_TS[1, 0])


def test_lows_without_highs_are_refused(make_prices):
    with pytest.raises(InvalidInput, match="one without the other"):
        replace(make_prices([1, 1], [1, 1]), low_TS=np.ones((2, 1)))


@pytest.mark.parametrize(("low", "high"), [(1.1, 2.0), (0.5, 0.9)])
def test_a_range_that_does_not_hold_the_price_is_refused(make_prices, low, high):
    with pytest.raises(
        InvalidInput, match=r"BTCUSDT at bar 0 .* traded at 1\.0, outside its range"
    ):
        replace(
            make_prices([1, 1], [1, 1]), low_TS=np.full((2, 1), low), high_TS=np.full((2, 1), high)
        )
