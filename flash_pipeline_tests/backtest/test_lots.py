from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.backtest import Account, Costs, Lots, Prices, simulate
from flash_pipeline.errors import InvalidConfig, InvalidInput

ANY = Lots(np.zeros(3), np.zeros(3), np.zeros(3))


def one(step=0.0, qty=0.0, notional=0.0):
    return Lots(np.array([step]), np.array([qty]), np.array([notional]))


def test_an_order_is_cut_to_whole_steps_and_never_exceeds_the_target(make_prices, free):
    # 1,000 USDT at 70 buy 14.28 coins: 14 in whole ones. Short, 14 as well.
    prices = make_prices([70, 70, 70], [70, 70, 70])
    for sign in (1, -1):
        account = Account(capital=1_000, lots=one(step=1))
        result = simulate(np.full((3, 1), sign), prices, free, account=account)
        assert result.weights_TS[:, 0].tolist() == pytest.approx([0, sign * 0.98, sign * 0.98])
        assert result.n_trades == 1


def test_a_quantity_that_is_whole_but_for_rounding_stays_so(make_prices, free):
    account = Account(capital=1_000, lots=one(step=0.1))
    prices = make_prices([100, 100], [100, 100])
    result = simulate(np.full((2, 1), 0.03), prices, free, account=account)
    assert result.weights_TS[1, 0] == pytest.approx(0.03)  # 0.3 coins, 2.9999999999999996 steps


@pytest.mark.parametrize(
    ("lots", "filled"),
    [
        (one(qty=5.01), 0),
        (one(notional=501), 0),
        (one(step=5, qty=5, notional=500), 1),
    ],
)
def test_an_order_below_a_minimum_is_not_sent(make_prices, free, lots, filled):
    account = Account(capital=1_000, lots=lots)
    prices = make_prices([100, 100], [100, 100])  # half of it are 5 coins
    assert simulate(np.full((2, 1), 0.5), prices, free, account=account).n_trades == filled


def test_a_position_can_always_be_closed(make_prices, free):
    # A quarter of it is left after a fall, below the minimum for an order that opens.
    prices = make_prices([100, 100, 25, 25], [100, 100, 25, 25])
    targets_TS = np.array([[1.0], [0.0], [0.0], [0.0]])
    account = Account(capital=1_000, lots=one(qty=1, notional=500))
    result = simulate(targets_TS, prices, free, account=account)
    assert result.weights_TS[:, 0].tolist() == [0, 1, 0, 0]
    assert result.equity_T[-1] == pytest.approx(0.25)


def test_a_small_account_cannot_follow_where_a_large_one_can(random_walk, random_weights):
    prices, targets_TS = random_walk(100), random_weights(100)
    lots = Lots(np.full(3, 0.001), np.full(3, 0.001), np.full(3, 5.0))
    exact = simulate(targets_TS, prices, Costs())
    for capital, close in ((20, False), (1e9, True)):
        held = simulate(targets_TS, prices, Costs(), account=Account(capital=capital, lots=lots))
        assert np.allclose(held.equity_T, exact.equity_T, rtol=1e-6) is close


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0.002, 0.05, 0.4]),
    leverage=st.sampled_from([0.5, 3.0]),
    every=st.sampled_from([1, 4]),
)
def test_without_steps_and_minima_bars_one_by_one_are_bars_all_at_once(seed, step, leverage, every):
    rng = np.random.default_rng(seed)
    open_TS, close_TS = np.exp(np.cumsum(rng.normal(0, step, (2, 30, 3)), axis=1))
    prices = Prices(np.arange(30), open_TS, close_TS, ("AA", "BB", "CC"))
    targets_TS = leverage * rng.uniform(-1, 1, (30, 3)) / 3
    run = {
        "gross_cap": leverage,
        "rebalance_every": every,
        "funding_TS": rng.normal(0, 0.001, (30, 3)),
    }
    at_once = simulate(targets_TS, prices, Costs(), **run)
    one_by_one = simulate(targets_TS, prices, Costs(), **run, account=Account(lots=ANY))
    for name in ("equity_T", "weights_TS", "orders_TS", "pnl_TS", "costs_paid_TS"):
        np.testing.assert_allclose(
            getattr(one_by_one, name), getattr(at_once, name), rtol=1e-8, atol=1e-10
        )


def test_the_lots_are_taken_from_the_instruments_in_the_order_of_the_prices():
    table = pa.table(
        {
            "symbol": ["BTCUSDT", "ETHUSDT"],
            "qty_step": [0.001, 0.01],
            "min_order_qty": [0.001, 0.02],
            "min_notional_value": pa.array([5.0, None], pa.float64()),
        }
    )
    lots = Lots.from_instruments(table, ("ETHUSDT", "BTCUSDT"))
    assert lots.qty_step_S.tolist() == [0.01, 0.001]
    assert lots.min_qty_S.tolist() == [0.02, 0.001]
    assert lots.min_notional_S.tolist() == [0.0, 5.0]
    with pytest.raises(InvalidInput, match="no instrument of SOLUSDT"):
        Lots.from_instruments(table, ("BTCUSDT", "SOLUSDT"))
    free = Lots.from_instruments(table, ("SOLUSDT", "BTCUSDT"), unlisted=True)
    assert free.qty_step_S.tolist() == [0.0, lots.qty_step_S[1]]
    assert free.min_notional_S.tolist() == [0.0, 5.0]


def test_lots_of_other_symbols_are_refused(random_walk):
    with pytest.raises(InvalidInput, match="lots are of 1 symbols: expected the prices' 3"):
        simulate(np.zeros((5, 3)), random_walk(5), Costs(), account=Account(lots=one()))


@pytest.mark.parametrize("bad", [-1.0, np.nan])
def test_a_negative_step_is_refused(bad):
    with pytest.raises(InvalidConfig, match="qty_step_S is"):
        one(step=bad)


def test_lots_of_different_lengths_are_refused():
    with pytest.raises(InvalidConfig, match="expected one per symbol"):
        replace(ANY, qty_step_S=np.zeros(2))


@pytest.mark.parametrize("capital", [0.0, -5.0, np.inf])
def test_a_capital_that_is_no_positive_number_is_refused(capital):
    with pytest.raises(InvalidConfig, match="capital is"):
        Account(capital=capital)
