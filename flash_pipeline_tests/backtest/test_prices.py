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
