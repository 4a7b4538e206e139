import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.backtest import Account, Costs, Prices, orders, simulate
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline_tests.backtest.conftest import HOUR_MS


def slow_ledger(target_TS, prices, rate, funding_TS, maintenance_rate, every=1):
    """Units and cash, bar by bar, with nothing in common with the vectorised engine."""
    n_bars, n_symbols = target_TS.shape
    cash, unit_S, equity_T = 1.0, np.zeros(n_symbols), []

    def is_left(price_S):
        equity = cash + float((unit_S * price_S).sum())
        return equity > maintenance_rate * float(np.abs(unit_S * price_S).sum())

    for bar in range(n_bars):
        open_S, close_S = prices.open_TS[bar], prices.close_TS[bar]
        cash -= float((unit_S * open_S * funding_TS[bar]).sum())
        if not is_left(open_S):
            break
        if bar and (bar - 1) % every == 0:
            equity = cash + float((unit_S * open_S).sum())
            order_S = target_TS[bar - 1] * equity - unit_S * open_S
            cash -= float(order_S.sum()) + rate * float(np.abs(order_S).sum())
            unit_S = unit_S + order_S / open_S
        if not is_left(close_S):
            break
        equity_T.append(cash + float((unit_S * close_S).sum()))
    return np.array(equity_T + [0.0] * (n_bars - len(equity_T)))


def test_a_ledger_by_hand_agrees_to_the_cent(make_prices):
    # 10,000 USDT. The first target, all in, is filled at the second open of 100; the second, half,
    # at the third open of 121; the third, short half, at the fourth open of 110.
    prices = make_prices([90, 100, 121, 110], [95, 110, 121, 99])
    costs = Costs(fee_rate=0.001, slippage_rate=0.001)
    result = simulate(np.array([[1.0], [0.5], [-0.5], [0.0]]), prices, costs)

    cash = 10_000 - 10_000 - 20.00  # 100 coins at 100, and 0.2 % of them
    close_1 = 100 * 110 + cash
    open_2 = 100 * 121 + cash
    sold = 100 * 121 - open_2 / 2  # down to half of 12,080
    cash += sold - 12.12
    coins = open_2 / 2 / 121
    close_2 = coins * 121 + cash
    open_3 = coins * 110 + cash
    sold = coins * 110 + open_3 / 2
    cash += sold - sold * 0.002
    close_3 = cash - open_3 / 2 / 110 * 99

    ledger = [10_000, close_1, close_2, close_3]
    np.testing.assert_allclose(result.equity_T * 10_000, ledger, rtol=1e-14)
    assert np.round(ledger, 2).tolist() == [10_000.0, 10_980.0, 12_067.88, 12_072.23]
    np.testing.assert_allclose(result.costs_T, result.turnover_T * 0.002)
    np.testing.assert_allclose(result.weights_TS[:, 0], [0, 1, 0.5, -0.5])
    assert result.n_trades == 3
    assert not result.liquidated
    trades = result.trades().to_pydict()
    assert trades["price"] == [100, 121, 110]
    np.testing.assert_allclose(
        np.array(trades["notional"]) * 10_000, [10_000, -6_060, -(coins * 110 + open_3 / 2)]
    )
    np.testing.assert_allclose(np.array(trades["cost"][:2]) * 10_000, [20, 12.12])


def test_a_constant_drift_held_in_full_compounds_exactly(make_prices, free):
    # +0.1 % from every open to the next. The chapter booked each bar's return over the next 24.
    level_T = 100 * 1.001 ** np.arange(101)
    result = simulate(np.ones((100, 1)), make_prices(level_T[:-1], level_T[1:]), free)
    assert result.equity_T[-1] == pytest.approx(1.001**99, rel=1e-12)  # bar 0 is in cash
    assert result.turnover_T.sum() == 1
    assert result.n_trades == 1


def test_a_constant_drift_costs_one_purchase(make_prices):
    level_T = 100 * 1.001 ** np.arange(101)
    result = simulate(np.ones((100, 1)), make_prices(level_T[:-1], level_T[1:]), Costs())
    # 100 % of the equity at the first open, so the costs are owed; the next open pays them back.
    assert result.turnover_T[2] == pytest.approx(0.00075 / (1.001 - 0.00075))
    assert result.equity_T[-1] == pytest.approx(1.001**99 * (1 - 0.00075), rel=2e-6)


def test_a_weight_earns_nothing_of_the_bar_it_was_decided_in(make_prices, free):
    # The close doubles within the deciding bar and the next open is where the close was.
    result = simulate(np.ones((3, 1)), make_prices([100, 200, 200], [200, 200, 200]), free)
    assert result.equity_T.tolist() == [1, 1, 1]


def test_a_fill_misses_the_gap_after_the_decision(make_prices, free):
    # Filling at the signal's close, as the chapter did, would have earned the jump to 150.
    result = simulate(np.ones((3, 1)), make_prices([100, 150, 150], [100, 150, 150]), free)
    assert result.equity_T.tolist() == [1, 1, 1]


def test_knowing_this_bars_return_earns_nothing_on_a_random_walk(random_walk, free):
    # The sign of bar t's own open-to-close move is known at its close, hence worthless; moved up
    # by a row it would be look-ahead, and the ledger shows the fortune it pretends to make.
    prices = random_walk(4_000, 1, step=0.01)
    sign_TS = np.sign(prices.close_TS - prices.open_TS)
    honest = simulate(sign_TS, prices, free)
    cheating = simulate(np.roll(sign_TS, -1, axis=0), prices, free)
    assert abs(honest.returns_T.mean()) < 3 * honest.returns_T.std() / np.sqrt(4_000)
    assert cheating.returns_T.mean() > 0.005


def test_prices_up_to_a_decision_do_not_change_what_it_earns(random_walk, random_weights):
    prices, weights_TS = random_walk(40), random_weights(40)
    weights_TS[:20] = 0.0  # the first decision falls at the close of bar 20
    open_TS, close_TS = prices.open_TS.copy(), prices.close_TS.copy()
    open_TS[:21] *= 3
    close_TS[:21] *= 5
    other = Prices(prices.start_time_T, open_TS, close_TS, prices.symbols)
    np.testing.assert_array_equal(
        simulate(weights_TS, prices, Costs()).equity_T,
        simulate(weights_TS, other, Costs()).equity_T,
    )


def test_later_prices_and_weights_do_not_change_the_past(random_walk, random_weights):
    prices, weights_TS = random_walk(40), random_weights(40)
    open_TS, close_TS, changed_TS = prices.open_TS.copy(), prices.close_TS.copy(), -weights_TS
    open_TS[25:] *= 2
    close_TS[25:] *= 0.5
    changed_TS[:24] = weights_TS[:24]
    other = Prices(prices.start_time_T, open_TS, close_TS, prices.symbols)
    before, after = simulate(weights_TS, prices, Costs()), simulate(changed_TS, other, Costs())
    np.testing.assert_array_equal(before.equity_T[:25], after.equity_T[:25])
    np.testing.assert_array_equal(before.costs_T[:25], after.costs_T[:25])


def test_the_last_target_is_never_filled(random_walk, random_weights):
    prices, weights_TS = random_walk(10), random_weights(10)
    other_TS = weights_TS.copy()
    other_TS[-1] = 0.0
    np.testing.assert_array_equal(
        simulate(weights_TS, prices, Costs()).equity_T, simulate(other_TS, prices, Costs()).equity_T
    )


@settings(max_examples=150, deadline=None)
@given(
    n_bars=st.integers(2, 30),
    n_symbols=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    step=st.sampled_from([0.001, 0.02, 0.3]),
    leverage=st.sampled_from([0.3, 1.0, 5.0]),
    with_funding=st.booleans(),
    every=st.sampled_from([1, 1, 2, 5]),
)
def test_the_engine_agrees_with_a_slow_ledger_of_units_and_cash(
    n_bars, n_symbols, seed, step, leverage, with_funding, every
):
    rng = np.random.default_rng(seed)
    open_TS, close_TS = np.exp(np.cumsum(rng.normal(0, step, (2, n_bars, n_symbols)), axis=1))
    prices = Prices(np.arange(n_bars), open_TS, close_TS, ("AA", "BB", "CC")[:n_symbols])
    target_TS = leverage * rng.uniform(-1, 1, (n_bars, n_symbols)) / n_symbols
    target_TS[rng.random((n_bars, n_symbols)) < 0.2] = 0.0
    funding_TS = rng.normal(0, 0.001, target_TS.shape) * with_funding
    costs = Costs(fee_rate=0.001, slippage_rate=0.0005)
    result = simulate(
        target_TS,
        prices,
        costs,
        gross_cap=leverage,
        rebalance_every=every,
        funding_TS=funding_TS if with_funding else None,
        account=Account(maintenance_rate=0.01),
    )
    expected_T = slow_ledger(target_TS, prices, costs.rate, funding_TS, 0.01, every)
    np.testing.assert_allclose(result.equity_T, expected_T, rtol=1e-9, atol=1e-12)
    assert result.liquidated == (expected_T[-1] == 0)
    # Profits and costs by symbol account for every bar's change of equity.
    change_T = (result.pnl_TS - result.costs_paid_TS).sum(axis=1)
    np.testing.assert_allclose(
        change_T, np.diff(result.equity_with_start), rtol=1e-8, atol=1e-10 * leverage
    )
    np.testing.assert_allclose(np.cumprod(1 + result.returns_T), result.equity_T, atol=1e-12)


def test_costs_are_turnover_times_fee_and_slippage(random_walk, random_weights):
    result = simulate(random_weights(50), random_walk(50), Costs(0.0005, 0.0003))
    np.testing.assert_allclose(result.costs_T, result.turnover_T * 0.0008, atol=1e-15)
    assert (result.gross_returns_T >= result.returns_T).all()
    paid_T = result.costs_paid_TS.sum(axis=1)
    np.testing.assert_allclose(
        (result.gross_returns_T - result.returns_T)[0], paid_T[0], atol=1e-15
    )


def test_drift_between_trades_is_turnover_when_it_is_traded_back(make_prices, free):
    # Half in a coin that doubles is two thirds: back to half sells one sixth.
    result = simulate(np.full((3, 1), 0.5), make_prices([1, 1, 2], [1, 2, 2]), free)
    np.testing.assert_allclose(result.turnover_T, [0, 0.5, 2 / 3 - 0.5])


def test_a_long_position_pays_positive_funding_and_a_short_one_receives_it(make_prices, free):
    prices = make_prices([1, 1, 1, 1], [1, 1, 1, 1])
    funding_TS = np.array([[0.0], [0.0], [0.01], [np.nan]])  # NaN falls where nothing is held
    target_TS = np.array([[0.5], [0.0], [0.0], [0.0]])
    assert simulate(target_TS, prices, free, funding_TS=funding_TS).equity_T[-1] == 0.995
    assert simulate(-target_TS, prices, free, funding_TS=funding_TS).equity_T[-1] == 1.005


def test_missing_funding_of_a_held_position_is_refused(make_prices, free):
    prices = make_prices([1, 1, 1], [1, 1, 1])
    with pytest.raises(InvalidInput, match=r"funding rate of BTCUSDT at bar 2 .* is nan"):
        simulate(np.ones((3, 1)), prices, free, funding_TS=np.full((3, 1), np.nan))


def test_a_short_squeezed_over_a_gap_is_liquidated_and_stays_so(make_prices, free):
    prices = make_prices([100, 100, 250, 100, 100], [100, 100, 250, 50, 50])
    result = simulate(np.full((5, 1), -1.0), prices, free)
    assert result.liquidated
    assert result.equity_T.tolist() == [1, 1, 0, 0, 0]
    assert result.returns_T.tolist() == [0, 0, -1, 0, 0]
    assert result.weights_TS[:, 0].tolist() == [0, -1, 0, 0, 0]
    assert result.turnover_T.tolist() == [0, 1, 0, 0, 0]
    assert result.net_pnl_S.tolist() == [-1]  # the rest of the loss is the exchange's


def test_two_ruinous_moves_do_not_multiply_back_to_a_gain(make_prices, free):
    prices = make_prices([100, 100, 300, 300], [100, 300, 300, 900])
    result = simulate(np.full((4, 1), -1.0), prices, free)
    assert result.equity_T.tolist() == [1, 0, 0, 0]


def test_a_symbol_without_prices_is_fine_while_its_weight_is_zero(make_prices):
    open_TS, close_TS = np.ones((4, 2)), np.ones((4, 2))
    open_TS[:2, 1] = close_TS[:2, 1] = np.nan
    target_TS = np.array([[0.5, 0.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    result = simulate(target_TS, make_prices(open_TS, close_TS), Costs())
    assert np.isfinite(result.equity_T).all()
    assert result.pnl_TS[:2, 1].tolist() == [0, 0]
    assert result.costs_paid_TS[:2, 1].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [np.nan, 0.0, -3.0, np.inf])
@pytest.mark.parametrize(("side", "bar"), [("open", 1), ("open", 2), ("close", 1)])
def test_a_held_symbol_needs_a_price_at_fills_and_marks(make_prices, side, bar, bad):
    # Bought at the open of bar 1 and sold at the open of bar 2.
    sides = {"open": np.ones(4), "close": np.ones(4)}
    sides[side][bar] = bad
    target_TS = np.array([[1.0], [0.0], [0.0], [0.0]])
    with pytest.raises(InvalidInput, match=rf"{side} of BTCUSDT at bar {bar} \(2024-01-01T0{bar}"):
        simulate(target_TS, make_prices(sides["open"], sides["close"]), Costs())


def test_a_weight_of_nan_is_refused_with_its_bar_and_symbol(random_walk, random_weights):
    weights_TS = random_weights(10)
    weights_TS[4, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"target weight of ETHUSDT at bar 4 .* is nan"):
        simulate(weights_TS, random_walk(10), Costs())


def test_gross_above_the_cap_is_refused_with_its_bar(random_walk):
    weights_TS = np.zeros((10, 3))
    weights_TS[7] = [0.5, -0.5, 0.25]
    with pytest.raises(
        InvalidInput, match=r"gross weight at bar 7 .* is 1\.25: above the cap of 1"
    ):
        simulate(weights_TS, random_walk(10), Costs())
    assert simulate(weights_TS, random_walk(10), Costs(), gross_cap=1.25).turnover_T[8] > 0


@pytest.mark.parametrize("cap", [0.0, -1.0, np.nan, np.inf])
def test_a_gross_cap_must_be_a_positive_number(random_walk, cap):
    with pytest.raises(InvalidConfig, match="gross_cap is"):
        simulate(np.zeros((10, 3)), random_walk(10), Costs(), gross_cap=cap)


def test_weights_of_another_shape_are_refused(random_walk):
    with pytest.raises(InvalidInput, match=r"shape \(9, 3\): expected the prices' \(10, 3\)"):
        simulate(np.zeros((9, 3)), random_walk(10), Costs())


def test_a_weight_above_the_cap_of_a_symbol_is_refused(random_walk):
    weights_TS = np.zeros((10, 3))
    weights_TS[7, 1] = -0.5
    message = r"ETHUSDT at bar 7 .* is -0\.5: above the cap of 0\.4 a symbol"
    with pytest.raises(InvalidInput, match=message):
        simulate(weights_TS, random_walk(10), Costs(), symbol_cap=0.4)


def test_targets_of_other_times_are_refused_with_the_first_of_them(random_walk):
    prices, weights_TS = random_walk(10), np.zeros((10, 3))
    simulate(weights_TS, prices, Costs(), target_time_T=prices.start_time_T)
    late_T = prices.start_time_T + np.where(np.arange(10) >= 4, HOUR_MS, 0)
    with pytest.raises(InvalidInput, match=r"row 4 of the targets is of 2024-01-01T05:00Z"):
        simulate(weights_TS, prices, Costs(), target_time_T=late_T)
    with pytest.raises(InvalidInput, match="9 bars: expected the prices' 10"):
        simulate(weights_TS, prices, Costs(), target_time_T=prices.start_time_T[1:])


def test_weights_drift_between_two_fills(make_prices, free):
    # Half in a coin that doubles in every bar and is traded at every third open: 1.5, 2.5, 4.5.
    prices = make_prices([1, 1, 2, 4, 8, 8], [1, 2, 4, 8, 8, 8])
    result = simulate(np.full((6, 1), 0.5), prices, free, rebalance_every=3)
    assert result.equity_T.tolist() == [1, 1.5, 2.5, 4.5, 4.5, 4.5]
    np.testing.assert_allclose(result.weights_TS[:, 0], [0, 0.5, 1 / 1.5, 2 / 2.5, 0.5, 0.5])
    assert np.flatnonzero(result.turnover_T).tolist() == [1, 4]


@pytest.mark.parametrize("bars", [0, -1])
def test_trading_every_bar_is_the_most_often(random_walk, bars):
    with pytest.raises(InvalidConfig, match=f"rebalance_every is {bars}"):
        simulate(np.zeros((10, 3)), random_walk(10), Costs(), rebalance_every=bars)


def test_blocks_of_bars_join_without_a_seam(random_walk, random_weights, monkeypatch):
    prices, weights_TS = random_walk(200), random_weights(200)
    whole = simulate(weights_TS, prices, Costs(fee_rate=0.01))
    monkeypatch.setattr(orders, "BLOCK", 7)
    parts = simulate(weights_TS, prices, Costs(fee_rate=0.01))
    np.testing.assert_allclose(parts.equity_T, whole.equity_T, rtol=1e-12)
    np.testing.assert_allclose(parts.orders_TS, whole.orders_TS, atol=1e-12)
