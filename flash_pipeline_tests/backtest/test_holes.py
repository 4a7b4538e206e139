"""Bars in which a symbol is not traded: nothing is bought or sold at a price that is carried."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.backtest import (
    Account,
    Costs,
    Lots,
    Prices,
    buy_and_hold,
    hold_cohorts,
    simulate,
    simulate_many,
)
from flash_pipeline.backtest.impact import impact_scale
from flash_pipeline.backtest.openings import openings
from flash_pipeline.errors import InvalidInput
from flash_pipeline_tests.backtest.conftest import FIRST_MS, HOUR_MS

ANY = Account(lots=Lots(np.zeros(3), np.zeros(3), np.zeros(3)))


@pytest.fixture
def holed(make_prices):
    """Return a maker of prices, flat but for what is given, with bars of a symbol left out."""

    def make(close_TS, closed):
        close_TS = np.array(close_TS, dtype=float)
        open_TS = close_TS.copy()
        for bar, column in closed:
            open_TS[bar, column] = close_TS[bar, column] = np.nan
        return make_prices(open_TS, close_TS).carried_forward()

    return make


def frozen_ledger(target_TS, prices, rate, funding_TS, every):
    """Units and cash, with orders that wait for a symbol's next own open."""
    cash, unit_S, equity_T = 1.0, np.zeros(len(prices.symbols)), []
    due_S = np.zeros(len(prices.symbols), dtype=bool)
    for bar, open_S in enumerate(prices.open_TS):
        cash -= float((unit_S * open_S * funding_TS[bar]).sum())
        if bar and (bar - 1) % every == 0:
            due_S[:], wanted_S = True, target_TS[bar - 1]
        equity = cash + float((unit_S * open_S).sum())
        for s in np.flatnonzero(due_S & prices.real_TS[bar]):
            order = wanted_S[s] * equity - unit_S[s] * open_S[s]
            cash -= order + rate * abs(order)
            unit_S[s] += order / open_S[s]
            due_S[s] = False
        equity_T.append(cash + float((unit_S * prices.close_TS[bar]).sum()))
    return np.array(equity_T)


def test_a_loss_over_a_halt_is_borne_by_who_held_it(holed, free):
    # A third in a coin that is halted for 15 bars, and opens again 60 % lower. The forecasts of it
    # end with its bars, so the cohorts of 4 bars want nothing of it soon after.
    close_TS = np.full((40, 3), 100.0)
    close_TS[25:, 0] = 40.0
    prices = holed(close_TS, [(bar, 0) for bar in range(10, 25)])
    signal_TS = np.full((40, 3), 1 / 3)
    signal_TS[10:25, 0] = 0.0
    result = simulate(hold_cohorts(signal_TS, 4), prices, free)
    assert result.equity_T[24] == 1.0
    assert result.equity_T[25] == pytest.approx(1 - 0.6 / 3)
    assert not result.orders_TS[10:25, 0].any()
    assert result.orders_TS[25, 0] == pytest.approx(-0.4 / 3 / 0.8)  # sold where it opened
    assert buy_and_hold(prices, free).equity_T[-1] == pytest.approx(1 - 0.6 / 3)


def test_nothing_fills_while_a_market_is_closed_and_its_weekend_is_earned(holed):
    # Seven hours on weekdays, three weeks, with a gap of 1 % to every first open.
    hour_T = np.arange(21 * 24)
    is_open_T = (hour_T // 24 % 7 < 5) & (hour_T % 24 >= 9) & (hour_T % 24 < 16)
    day_T = np.cumsum(is_open_T & ~np.roll(is_open_T, 1))
    closed = [(int(bar), 0) for bar in np.flatnonzero(~is_open_T)]
    prices = holed(100 * 1.01 ** day_T[:, None], closed)
    first = int(np.argmax(is_open_T))
    target_TS = np.random.default_rng(0).uniform(0.2, 1, (len(hour_T), 1))
    target_TS[:first] = 0.0
    result = simulate(target_TS, prices, Costs())
    assert not result.turnover_T[~is_open_T].any()
    assert (result.turnover_T[is_open_T][1:] > 0).all()
    # Every opening earned 1 % of what was held over the night or the weekend.
    opens = np.flatnonzero(is_open_T & ~np.roll(is_open_T, 1))[1:]
    money_T = result.weights_TS[:, 0] * result.open_equity_T
    np.testing.assert_allclose(result.pnl_TS[opens, 0], 0.01 * money_T[opens - 1])
    assert openings(result).pnl_fraction == pytest.approx(result.pnl_TS.sum())


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    every=st.sampled_from([1, 1, 3, 7]),
    account=st.sampled_from([None, ANY]),
)
def test_the_engine_agrees_with_a_slow_ledger_whose_orders_wait(seed, share, every, account):
    rng = np.random.default_rng(seed)
    open_TS, close_TS = np.exp(np.cumsum(rng.normal(0, 0.03, (2, 30, 3)), axis=1))
    missing_TS = rng.random((30, 3)) < share
    missing_TS[0] = False
    open_TS[missing_TS] = close_TS[missing_TS] = np.nan
    whole = Prices(np.arange(30), open_TS, close_TS, ("AA", "BB", "CC"))
    prices = whole.carried_forward()
    if prices.real_TS is None:
        return
    target_TS = rng.uniform(-1, 1, (30, 3)) / 3
    funding_TS = rng.normal(0, 0.001, (30, 3))
    run = {"rebalance_every": every, "funding_TS": funding_TS, "account": account}
    result = simulate(target_TS, prices, Costs(), **run)
    expected_T = frozen_ledger(target_TS, prices, Costs().rate, funding_TS, every)
    np.testing.assert_allclose(result.equity_T, expected_T, rtol=1e-9)
    assert not result.orders_TS[missing_TS].any()
    change_T = (result.pnl_TS - result.costs_paid_TS).sum(axis=1)
    np.testing.assert_allclose(change_T, np.diff(result.equity_with_start), atol=1e-10)
    sweep = simulate_many(
        [target_TS, -target_TS], prices, Costs(), bars_per_year=8_760, keep_equity=True, **run
    )
    np.testing.assert_allclose(sweep.equity_PT[0], result.equity_T, rtol=1e-12)


def test_an_order_that_missed_its_bar_is_filled_at_the_next_own_open(holed, free):
    prices = holed(np.full((12, 1), 100.0), [(5, 0), (6, 0)])
    result = simulate(np.linspace(0, 1, 12)[:, None], prices, free, rebalance_every=4)
    assert np.flatnonzero(result.orders_TS[:, 0]).tolist() == [7, 9]  # not 5; bar 1 wants nothing
    assert result.weights_TS[7, 0] == pytest.approx(4 / 11)  # decided at the close of bar 4


def test_the_funding_of_a_frozen_position_must_be_known(holed, free):
    prices = holed(np.full((8, 1), 100.0), [(3, 0), (4, 0), (5, 0)])
    target_TS, funding_TS = np.ones((8, 1)), np.zeros((8, 1))
    target_TS[2:] = 0.0
    funding_TS[5] = np.nan
    with pytest.raises(InvalidInput, match=r"funding rate of BTCUSDT at bar 5"):
        simulate(target_TS, prices, free, funding_TS=funding_TS)


def test_a_position_before_the_first_price_is_refused_beside_a_hole_as_well(holed, free):
    closed = [(0, 1), (1, 1), (2, 1), (5, 0)]
    with pytest.raises(InvalidInput, match="open of ETHUSDT at bar 1"):
        simulate(np.full((8, 2), 0.5), holed(np.full((8, 2), 1.0), closed), free)


def test_what_never_opens_again_is_marked_at_its_last_close_and_told(holed, free):
    prices = holed(np.full((20, 2), 100.0), [(bar, 1) for bar in range(8, 20)])
    target_TS = np.full((20, 2), 0.5)
    target_TS[9:] = 0.0
    result = simulate(target_TS, prices, free)
    assert result.weights_TS[-1].tolist() == [0, 0.5]
    found = openings(result)
    assert found.still_closed == (("ETHUSDT", FIRST_MS + 8 * HOUR_MS),)
    assert "ETHUSDT has had no bar since 2024-01-01T08:00Z" in str(found)
    assert found.as_json()["still_closed"] == {"ETHUSDT": "2024-01-01T08:00Z"}


def test_what_was_traded_and_earned_at_openings_is_measured(holed, free):
    close_TS = np.full((10, 1), 100.0)
    close_TS[6:] = 110.0
    target_TS = np.full((10, 1), 0.5)
    target_TS[4:] = 0.0
    found = openings(simulate(target_TS, holed(close_TS, [(4, 0), (5, 0)]), free))
    assert found.pnl_fraction == pytest.approx(0.05)
    bought, sold = 0.5, 0.55 / 1.05
    assert found.turnover_share_fraction == pytest.approx(sold / (bought + sold))
    assert found.frozen_share_fraction == pytest.approx(2 / 5)  # bars 4 and 5 of 1 to 5


def test_without_a_hole_there_is_nothing_to_tell(random_walk, random_weights):
    prices = random_walk(20).carried_forward()
    assert prices.real_TS is None
    assert openings(simulate(random_weights(20), prices, Costs())) is None


def test_a_hole_at_the_first_fill_is_bought_after_it(holed, free):
    close_TS = np.full((6, 2), 100.0)
    close_TS[4:] = 200.0
    held = buy_and_hold(holed(close_TS, [(1, 1), (2, 1)]), free)
    assert held.orders_TS.tolist()[1:4] == [[0.5, 0], [0, 0], [0, 0.5]]
    assert held.equity_T.tolist() == [1, 1, 1, 1, 2, 2]


def test_what_has_no_open_after_the_first_fill_is_not_bought(holed, free):
    prices = holed(np.full((5, 2), 100.0), [(bar, 1) for bar in range(1, 5)])
    assert buy_and_hold(prices, free).orders_TS[1].tolist() == [1, 0]


def test_an_account_is_not_liquidated_while_all_it_holds_is_closed(make_prices, free):
    # Funding eats the margin of a leveraged long within a halt; where it opens, it has recovered.
    nan = np.nan
    open_T = [100, 100, nan, nan, 150, 150]
    prices = make_prices(open_T, open_T).carried_forward()
    funding_TS = np.array([[0], [0], [0], [0.19], [0], [0]], dtype=float)
    run = {"gross_cap": 5.0, "funding_TS": funding_TS, "account": Account(maintenance_rate=0.05)}
    result = simulate(np.full((6, 1), 5.0), prices, free, **run)
    assert not result.liquidated
    assert result.equity_T[3] == pytest.approx(0.05)
    lower = replace(prices, open_TS=np.minimum(prices.open_TS, 90.0))
    lower = replace(lower, close_TS=lower.open_TS)
    lower.open_TS[:4] = lower.close_TS[:4] = 100.0
    ended = simulate(np.full((6, 1), 5.0), lower, free, **run)
    assert ended.liquidation.bar == 4
    assert ended.liquidation.at_open
    assert openings(ended).pnl_fraction == pytest.approx(-0.05)


def test_a_halt_does_not_make_the_impact_vanish(random_walk):
    whole = random_walk(120)
    open_TS, close_TS = whole.open_TS.copy(), whole.close_TS.copy()
    open_TS[50:90, 1] = close_TS[50:90, 1] = np.nan
    prices = replace(
        whole, open_TS=open_TS, close_TS=close_TS, turnover_TS=np.full((120, 3), 1e6)
    ).carried_forward()
    scale_ST = impact_scale(prices, 1.0, 1e4)
    assert scale_ST[1, 90] == scale_ST[1, 73] > 0  # 24 bars into the halt, and after it
    assert np.isfinite(scale_ST).all()
