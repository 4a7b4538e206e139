import numpy as np
import pytest

from flash_pipeline.backtest import Account, Costs, Prices, simulate
from flash_pipeline.errors import InvalidConfig


@pytest.fixture
def dip(make_prices):
    """Return a market that falls to 85 within the second bar and closes where it opened."""

    def make(low=85.0, high=100.0):
        flat_TS = np.full((4, 1), 100.0)
        low_TS, high_TS = flat_TS.copy(), flat_TS.copy()
        low_TS[2], high_TS[2] = low, high
        plain = make_prices(flat_TS, flat_TS)
        return Prices(plain.start_time_T, flat_TS, flat_TS, plain.symbols, low_TS, high_TS)

    return make


def test_a_dip_that_the_close_hides_liquidates_a_leveraged_long(dip, free):
    # Five times long, at 82 the loss is 90 %: what is left is 2.5 % of a position of 410 %.
    kept = Account(maintenance_rate=0.025)
    run = {"costs": free, "gross_cap": 5.0, "account": kept}
    assert simulate(np.full((4, 1), 5.0), dip(82.1), **run).equity_T.tolist() == [1, 1, 1, 1]
    ended = simulate(np.full((4, 1), 5.0), dip(82.0), **run)
    assert ended.equity_T.tolist() == [1, 1, 0, 0]
    assert ended.liquidated
    assert ended.pnl_TS[:, 0].tolist() == [0, 0, -1, 0]
    assert ended.weights_TS[:, 0].tolist() == [0, 5, 5, 0]


def test_a_spike_liquidates_a_leveraged_short(dip, free):
    run = {"costs": free, "gross_cap": 5.0, "account": Account(maintenance_rate=0.0)}
    assert not simulate(np.full((4, 1), -5.0), dip(100, 119.9), **run).liquidated
    assert simulate(np.full((4, 1), -5.0), dip(100, 120.1), **run).liquidated


def test_without_lows_and_highs_only_opens_and_closes_are_looked_at(make_prices, free):
    prices = make_prices(np.full(4, 100.0), np.full(4, 100.0))
    assert not simulate(np.full((4, 1), 5.0), prices, free, gross_cap=5.0).liquidated


def test_all_symbols_are_taken_at_their_worst_at_once(make_prices, free):
    # Long one and short the other, each three times: 17 % against both is more than all.
    flat_TS = np.full((3, 2), 100.0)
    low_TS, high_TS = np.full((3, 2), 83.0), np.full((3, 2), 117.0)
    plain = make_prices(flat_TS, flat_TS)
    prices = Prices(plain.start_time_T, flat_TS, flat_TS, plain.symbols, low_TS, high_TS)
    targets_TS = np.tile([3.0, -3.0], (3, 1))
    ended = simulate(targets_TS, prices, free, gross_cap=6.0)
    assert ended.equity_T.tolist() == [1, 0, 0]
    assert ended.net_pnl_S.tolist() == pytest.approx([-0.5, -0.5])


def test_the_symbols_that_lost_bear_the_loss(make_prices, free):
    # The first coin doubles while the second, short four times, rises by half.
    open_TS = [[1, 1], [1, 1], [2, 1.5], [2, 1.5]]
    ended = simulate(
        np.tile([0.5, -4.0], (4, 1)), make_prices(open_TS, open_TS), free, gross_cap=5.0
    )
    assert ended.equity_T.tolist() == [1, 1, 0, 0]
    assert ended.net_pnl_S.tolist() == [0, -1]


def test_the_margin_is_kept_at_opens_too(make_prices, free):
    # A gap from 100 to 80.5 leaves 2.5 % of the equity under a position of 402.5 %.
    prices = make_prices([100, 100, 80.5, 80.5], [100, 100, 80.5, 80.5])
    for rate, left in ((0.006, True), (0.007, False)):
        account = Account(maintenance_rate=rate)
        result = simulate(np.full((4, 1), 5.0), prices, free, gross_cap=5.0, account=account)
        assert result.liquidated is not left


def test_costs_of_the_last_fill_are_paid_out_of_what_there_was(make_prices):
    prices = make_prices([100, 100, 100], [100, 80, 80])
    ended = simulate(np.full((3, 1), 5.0), prices, Costs(0.01, 0.0), gross_cap=5.0)
    assert ended.costs_paid_TS[:, 0].tolist() == pytest.approx([0, 0.05, 0])
    assert ended.net_pnl_S.sum() == pytest.approx(-1)


def test_the_last_bar_has_no_next_open_to_be_liquidated_at(make_prices, free):
    # What is left, 2.5 %, is above the margin of the fallen position and below that of the old.
    prices = make_prices([100, 100, 100], [100, 100, 80.5])
    account = Account(maintenance_rate=0.0055)
    result = simulate(np.full((3, 1), 5.0), prices, free, gross_cap=5.0, account=account)
    assert result.equity_T[-1] == pytest.approx(0.025)


@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_a_maintenance_rate_out_of_range_is_refused(rate):
    with pytest.raises(InvalidConfig, match="maintenance_rate is"):
        Account(maintenance_rate=rate)


def test_a_leverage_that_leaves_no_margin_is_refused(random_walk):
    with pytest.raises(InvalidConfig, match="gross_cap is 200: expected below 200"):
        simulate(np.zeros((5, 3)), random_walk(5), Costs(), gross_cap=200)
