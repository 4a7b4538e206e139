import numpy as np
import pytest

from flash_pipeline.backtest import Costs, buy_and_hold, simulate
from flash_pipeline.errors import InvalidInput


def test_weights_drift_instead_of_being_rebalanced(make_prices, free):
    # One coin doubles every bar, one stands still: 1, 1.5, 2.5, and not 1.5 ** 2.
    open_TS = np.array([[1, 1], [1, 1], [2, 1]])
    close_TS = np.array([[1, 1], [2, 1], [4, 1]])
    result = buy_and_hold(make_prices(open_TS, close_TS), free)
    assert result.equity_T.tolist() == [1, 1.5, 2.5]
    np.testing.assert_allclose(result.weights_TS, [[0, 0], [0.5, 0.5], [2 / 3, 1 / 3]])


def test_it_pays_once_and_starts_with_the_strategy(random_walk):
    prices = random_walk(30)
    result = buy_and_hold(prices, Costs(0.001, 0.001))
    expected = 1 / 1.002 * (prices.close_TS[-1] / prices.open_TS[1]).mean()
    assert result.equity_T[-1] == pytest.approx(expected)
    assert result.turnover_T.tolist() == pytest.approx([0, 1 / 1.002] + [0] * 28)
    assert result.n_trades == 3
    assert result.costs_paid_TS.sum() == pytest.approx(0.002 / 1.002)


def test_it_is_a_strategy_that_never_trades_again(random_walk):
    prices = random_walk(30)
    held = buy_and_hold(prices, Costs())
    target_TS = np.vstack([held.weights_TS[1:], held.weights_TS[-1:]])
    simulated = simulate(target_TS, prices, Costs())
    assert simulated.n_trades == 3
    for name in ("equity_T", "returns_T", "gross_returns_T", "costs_T", "pnl_TS", "costs_paid_TS"):
        np.testing.assert_allclose(getattr(held, name), getattr(simulated, name), atol=1e-12)


def test_a_symbol_that_is_listed_later_is_left_out_and_a_hole_is_marked_at_the_last_close(
    make_prices, free
):
    nan = np.nan
    open_TS = np.array([[1, nan], [1, nan], [nan, 7], [3, 7]])
    close_TS = np.array([[1, nan], [2, nan], [nan, 7], [4, 9]])
    result = buy_and_hold(make_prices(open_TS, close_TS), free)
    assert result.equity_T.tolist() == [1, 2, 2, 4]
    assert result.n_trades == 1


def test_nothing_to_buy_is_refused(make_prices, free):
    with pytest.raises(InvalidInput, match="no symbol can be bought at bar 1"):
        buy_and_hold(make_prices([np.nan, np.nan, 1], [np.nan, np.nan, 1]), free)
    with pytest.raises(InvalidInput, match="no symbol can be bought at bar 1"):
        buy_and_hold(make_prices([1, np.nan, np.nan], [1, np.nan, np.nan]), free)


def test_it_pays_funding_as_the_strategy_does(make_prices, free):
    rate_TS = np.array([[0.0], [0.0], [0.01], [0.01]])
    result = buy_and_hold(make_prices([1, 1, 2, 2], [1, 2, 2, 2]), free, funding_TS=rate_TS)
    assert result.equity_T.tolist() == [1, 2, 1.98, 1.96]


@pytest.mark.parametrize("bar", [-1, 0, 3])
def test_a_first_fill_outside_the_bars_is_refused(make_prices, free, bar):
    with pytest.raises(InvalidInput, match=f"first_fill is {bar}"):
        buy_and_hold(make_prices([1, 1, 1], [1, 1, 1]), free, first_fill=bar)
