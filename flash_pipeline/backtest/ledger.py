"""Fills and prices booked into an account that is marked at every close.

    open of bar t                                close               open of bar t + 1
    ─ equity ─ fill, costs ─ bar ─ marked ─ gap, funding ─ equity ─

Everything is in fractions of the equity at a bar's open before its fill, so that the account is a
product of growths from open to open.

T bars · S symbols
"""

from dataclasses import replace
from typing import Any

import numpy as np

from flash_pipeline.backtest.liquidation import Liquidation, Marks, find_liquidation
from flash_pipeline.backtest.orders import Fills
from flash_pipeline.backtest.prices import FloatArray, Prices
from flash_pipeline.backtest.result import BacktestResult


def book(
    fills: Fills, prices: Prices, funding_ST: FloatArray | None, maintenance_rate: float
) -> BacktestResult:
    """Book fills, and end the account where its margin is gone.

    Parameters
    ----------
    fills : Fills
        Positions, orders and costs at the open of every bar, [S, T].
    prices : Prices
        Valid wherever a position is held.
    funding_ST : array [S, T] or None
        Rate paid at each open by the position of the bar before.
    maintenance_rate : float
        Margin to be kept, a fraction of the notional.

    Returns
    -------
    BacktestResult
        One row per bar.
    """
    moves, held_ST = prices.moves, fills.held_SK
    gross_T, cost_T = fills.gross_K, fills.cost_K
    close_T = 1 - cost_T + np.einsum("st,st->t", held_ST, moves.bar_ST)
    next_T = 1 - cost_T + (np.einsum("st,st->t", held_ST, moves.next_ST) - held_ST.sum(axis=0))
    if funding_ST is not None:
        arriving_ST = held_ST[:, :-1] * moves.next_ST[:, :-1]
        next_T[:-1] -= np.einsum("st,st->t", arriving_ST, funding_ST[:, 1:])
    next_T[-1] = close_T[-1]  # there is no next open
    marks = Marks(held_ST, gross_T, cost_T, close_T, next_T)
    end = find_liquidation(marks, moves, maintenance_rate)
    if end is not None:  # booked as if nothing moved from there on, and overwritten below
        next_T[end.bar - end.at_open :] = close_T[end.bar :] = 1.0
    open_T = np.cumprod(np.concatenate([[1.0], next_T[:-1]]))
    equity_T = open_T * close_T
    before_T = np.concatenate([[1.0], equity_T[:-1]])
    result = BacktestResult(
        prices=prices,
        open_equity_T=open_T,
        equity_T=equity_T,
        returns_T=equity_T / before_T - 1,
        gross_returns_T=open_T * (close_T + cost_T) / before_T - 1,
        costs_T=cost_T,
        turnover_T=fills.turnover_K,
        gross_T=gross_T,
        weights_TS=held_ST.T,
        orders_TS=fills.order_SK.T,
        cost_rate=fills.rate.T if isinstance(fills.rate, np.ndarray) else fills.rate,
        funding_TS=None if funding_ST is None else funding_ST.T,
    )
    return result if end is None else _ended(result, end)


def _ended(result: BacktestResult, end: Liquidation) -> BacktestResult:
    """Cut a ledger at its liquidation: nothing is left, traded or held from there on."""
    bar = end.bar
    money: dict[str, Any] = {
        name: np.where(np.arange(len(result.equity_T)) < bar, getattr(result, name), 0.0)
        for name in ("equity_T", "returns_T", "gross_returns_T", "open_equity_T")
    }
    money["returns_T"][bar] = money["gross_returns_T"][bar] = -1.0
    traded: dict[str, Any] = {
        name: getattr(result, name).copy()
        for name in ("costs_T", "turnover_T", "gross_T", "weights_TS", "orders_TS")
    }
    for rows in traded.values():
        rows[bar + (not end.at_open) :] = 0.0
    if not end.at_open:
        money["open_equity_T"][bar] = result.open_equity_T[bar]
        traded["costs_T"][bar] = min(result.costs_T[bar], 1.0)  # no more than there is
    return replace(result, liquidation=end, **money, **traded)
