"""The portfolio that any strategy has to be held against.

T bars · S symbols
"""

import numpy as np

from flash_pipeline.backtest.account import Account
from flash_pipeline.backtest.checks import Targets
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.engine import plan, run
from flash_pipeline.backtest.prices import FloatArray, Prices, is_price
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.errors import InvalidInput


def buy_and_hold(
    prices: Prices,
    costs: Costs,
    *,
    first_fill: int = 1,
    funding_TS: FloatArray | None = None,
    account: Account | None = None,
) -> BacktestResult:
    """Buy equal weights once and never trade again, so that the weights drift with the prices.

    Parameters
    ----------
    prices : Prices
        The strategy's own prices. A symbol without a price up to the first fill is left out; one
        that has a hole there is bought at its first open after it, for its share of the equity
        then. A later hole is marked at the last close before it.
    costs : Costs
        The strategy's own costs, paid once out of the capital.
    first_fill : int
        Bar at whose open everything is bought, 1 to T - 1. The default is the first open at
        which `simulate` can trade, so both start together.
    funding_TS : array [T, S] or None
        The strategy's own funding rates: a perpetual that is held pays them.
    account : Account or None
        The strategy's own account.

    Returns
    -------
    BacktestResult
        One row per bar, in cash before the first fill, marked and not sold at the end.

    Raises
    ------
    InvalidInput
        If `first_fill` is no such bar, or no symbol can be bought from there on.
    """
    n_bars = len(prices.start_time_T)
    if not 1 <= first_fill < n_bars:
        raise InvalidInput(f"first_fill is {first_fill}: expected a bar from 1 to {n_bars - 1}")
    carried = prices.carried_forward()
    bought_S = is_price(carried.open_TS[first_fill]) & is_price(carried.close_TS[first_fill])
    if carried.real_TS is not None:
        bought_S &= carried.real_TS[first_fill:].any(axis=0)
    if not bought_S.any():
        raise InvalidInput(
            f"no symbol can be bought at {prices.describe(first_fill)} or after a hole there"
        )
    wanted_ST = np.zeros((len(bought_S), n_bars))
    # So much that it and its costs are the whole capital.
    wanted_ST[bought_S, first_fill] = 1 / (bought_S.sum() * (1 + costs.rate))
    targets = Targets(wanted_ST, wanted_ST.sum(axis=0))
    bought_T = np.arange(n_bars) == first_fill
    return run(plan(targets, carried, costs, bought_T, funding_TS, account or Account()))
