"""The portfolio that any strategy has to be held against.

T bars · S symbols
"""

import numpy as np

from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.prices import Prices, is_price
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.errors import InvalidInput


def buy_and_hold(prices: Prices, costs: Costs, *, first_fill: int = 1) -> BacktestResult:
    """Buy equal weights once and never trade again, so that the weights drift with the prices.

    Parameters
    ----------
    prices : Prices
        The strategy's own prices. A symbol without a price at the first fill is left out; a
        later hole is marked at the last close before it.
    costs : Costs
        The strategy's own costs, paid once.
    first_fill : int
        Bar at whose open everything is bought, 0 to T - 1. The default is the first open at
        which `simulate` can trade, so both start together.

    Returns
    -------
    BacktestResult
        One row per bar, in cash before the first fill, marked and not sold at the end.

    Raises
    ------
    InvalidInput
        If `first_fill` is no bar, or no symbol has a price there.
    """
    n_bars = len(prices.start_time_T)
    if not 0 <= first_fill < n_bars:
        raise InvalidInput(f"first_fill is {first_fill}: expected a bar from 0 to {n_bars - 1}")
    filled = prices.carried_forward()
    bought_S = is_price(prices.open_TS[first_fill]) & is_price(prices.close_TS[first_fill])
    if not bought_S.any():
        raise InvalidInput(
            f"no symbol has a price at {prices.describe(first_fill)}: nothing to buy"
        )
    share_S = np.where(bought_S, 1 / bought_S.sum(), 0.0)
    unit_S = np.where(bought_S, share_S / np.where(bought_S, filled.open_TS[first_fill], 1), 0.0)
    invested = 1 - costs.rate

    # Value of each holding; before the purchase all of it is still the cash it will cost.
    open_value_TS = np.where(bought_S, filled.open_TS, 0.0) * unit_S * invested
    close_value_TS = np.where(bought_S, filled.close_TS, 0.0) * unit_S * invested
    open_value_TS[:first_fill] = close_value_TS[:first_fill] = share_S
    equity_T = close_value_TS.sum(axis=1)
    before_T = np.concatenate([[1.0], equity_T[:-1]])
    costs_T, turnover_T = np.zeros(n_bars), np.zeros(n_bars)
    costs_T[first_fill], turnover_T[first_fill] = costs.rate, 1.0
    costs_paid_TS = costs_T[:, None] * share_S
    weights_TS = open_value_TS / open_value_TS.sum(axis=1, keepdims=True)
    weights_TS[:first_fill] = 0.0
    pnl_TS = np.diff(close_value_TS, axis=0, prepend=share_S[None]) + costs_paid_TS
    returns_T = equity_T / before_T - 1
    return BacktestResult(
        symbols=prices.symbols,
        start_time_T=prices.start_time_T,
        equity_T=equity_T,
        returns_T=returns_T,
        gross_returns_T=(1 + returns_T) / (1 - costs_T) - 1,
        costs_T=costs_T,
        turnover_T=turnover_T,
        weights_TS=weights_TS,
        pnl_TS=pnl_TS,
        costs_paid_TS=costs_paid_TS,
        n_trades=int(bought_S.sum()),
        liquidated=False,
    )
