import math
from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.backtest import Account, Costs, simulate, turnover_from_volume
from flash_pipeline.backtest.impact import impact_scale
from flash_pipeline.errors import InvalidInput

LAW = Costs(fee_rate=0.0, slippage_rate=0.0, impact=1.0)


@pytest.fixture
def traded(random_walk):
    """Return a market in which each bar turns over as much, or as given."""

    def make(n_bars, n_symbols=3, turnover=1e6):
        prices = random_walk(n_bars, n_symbols)
        return replace(prices, turnover_TS=np.broadcast_to(turnover, prices.open_TS.shape))

    return make


def test_an_order_costs_the_volatility_times_the_root_of_its_share_of_the_turnover(make_prices):
    # Closes alternate by a factor e^0.01; 10,000 of 1,000,000 is a share of 1 %, a root of 10 %.
    close_T = 100 * np.exp(0.01 * (np.arange(60) % 2))
    prices = replace(make_prices(close_T, close_T), turnover_TS=np.full((60, 1), 1e6))
    targets_TS = np.zeros((60, 1))
    targets_TS[40] = 1.0
    result = simulate(targets_TS, prices, LAW, account=Account(capital=10_000))
    assert result.costs_T[41] == pytest.approx(0.01 * 0.1)


def test_four_times_the_capital_doubles_the_rate_of_the_cost(traded, random_weights):
    prices, targets_TS = traded(50), np.zeros((50, 3))
    targets_TS[30] = 0.2
    small, large = (
        simulate(targets_TS, prices, LAW, account=Account(capital=c)).costs_T[31]
        for c in (1_000, 4_000)
    )
    assert large / small == pytest.approx(2)


def test_the_impact_grows_with_the_equity(make_prices):
    # The account doubles between two orders of the same fraction.
    wiggle_T = 1 + 0.01 * (np.arange(80) % 2)
    level_T = wiggle_T * np.where(np.arange(80) < 50, 1, 2)
    prices = replace(make_prices(level_T, level_T), turnover_TS=np.full((80, 1), 1e9))
    targets_TS = np.zeros((80, 1))
    targets_TS[[40, 78]] = 1.0
    targets_TS[40:55] = 1.0
    result = simulate(targets_TS, prices, LAW)
    rates = result.costs_T[[41, 79]] / result.turnover_T[[41, 79]]
    scale_ST = impact_scale(prices, 1.0, 10_000)
    assert rates[1] / rates[0] == pytest.approx(
        math.sqrt(result.open_equity_T[79]) * scale_ST[0, 79] / scale_ST[0, 41]
    )


def test_a_null_or_zero_turnover_is_that_of_the_last_bar_known(traded):
    turnover_TS = np.full((40, 3), 4e6)
    turnover_TS[30:33] = [[np.nan], [0.0], [np.nan]]
    holed, whole = (impact_scale(traded(40, 3, t), 1.0, 1e4) for t in (turnover_TS, 4e6))
    np.testing.assert_array_equal(holed, whole)


def test_an_order_before_any_turnover_is_known_is_refused(traded):
    turnover_TS = np.full((40, 3), 1e6)
    turnover_TS[:20, 1] = np.nan
    targets_TS = np.zeros((40, 3))
    targets_TS[25] = 0.1
    assert simulate(targets_TS, traded(40, 3, turnover_TS), LAW).n_trades > 0
    targets_TS[5] = 0.1
    with pytest.raises(InvalidInput, match="market impact of ETHUSDT at bar 6"):
        simulate(targets_TS, traded(40, 3, turnover_TS), LAW)


def test_an_infinite_turnover_takes_any_order_without_impact(traded, random_weights):
    result = simulate(random_weights(40), traded(40, 3, np.inf), LAW)
    assert result.n_trades > 0
    assert not result.costs_T.any()


def test_prices_without_turnover_are_refused(random_walk):
    with pytest.raises(InvalidInput, match="the prices come without turnover"):
        simulate(np.zeros((10, 3)), random_walk(10), LAW)


def test_the_volatility_is_of_the_past_alone(traded):
    prices = traded(60)
    close_TS = prices.close_TS.copy()
    close_TS[40:] *= 1.5
    later = impact_scale(replace(prices, close_TS=close_TS), 1.0, 1e4)
    np.testing.assert_array_equal(later[:, :41], impact_scale(prices, 1.0, 1e4)[:, :41])


def test_impact_bar_by_bar_is_the_impact_of_all_bars_at_once(traded, random_weights, monkeypatch):
    prices, targets_TS = traded(120, 3, 1e5), random_weights(120)
    at_once = simulate(targets_TS, prices, Costs(impact=1.0))
    monkeypatch.setattr("flash_pipeline.backtest.orders.MOST_PASSES", 1)  # never enough
    one_by_one = simulate(targets_TS, prices, Costs(impact=1.0))
    assert at_once.costs_T[1:].min() > 1.5 * Costs().rate * at_once.turnover_T[1:].min()
    np.testing.assert_allclose(one_by_one.equity_T, at_once.equity_T, rtol=1e-10)
    np.testing.assert_allclose(one_by_one.costs_paid_TS, at_once.costs_paid_TS, atol=1e-12)


def test_orders_that_swamp_a_thin_market_ruin_the_account(traded, random_weights):
    result = simulate(random_weights(60), traded(60, 3, 1.0), Costs(impact=10.0))
    assert result.liquidated
    assert result.net_pnl_S.sum() == pytest.approx(-1)


def test_the_turnover_of_a_bar_is_estimated_within_its_range():
    found = turnover_from_volume(*(np.array([[v]]) for v in (10.0, 90.0, 120.0, 99.0)))
    assert found.tolist() == [[1030.0]]
