"""The orders of an account bar by bar: steps, minima, thin markets, and symbols that are closed.

Quantities are whole steps of the exchange, so what is held depends on the equity, and the equity
on all that was held before. The loop goes over bars and takes all parameter sets at once.

T bars · P parameter sets · S symbols
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.account import Account, Lots
from flash_pipeline.backtest.orders import DUST, Fills
from flash_pipeline.backtest.prices import BoolArray, FloatArray

ROUNDING = 1e-9
"""Part of a step by which a quantity may fall short of it and still count as whole."""


@dataclass(frozen=True, eq=False)
class Steps:
    """What the loop trades on, the same for all parameter sets but for the costs."""

    open_TS: FloatArray
    """Opens in quote coin, 1 where no position is held."""
    traded_T: BoolArray
    """Bars at whose open is traded."""
    waiting_TS: BoolArray | None
    """Symbols of which nothing is traded even there, as they are closed; None for none."""
    rate_P: FloatArray
    """Fee and slippage, a fraction of the traded notional."""
    impact_TPS: FloatArray | None
    """Factor of `impact_scale`, NaN for none."""
    funding_TS: FloatArray | None
    """Rates paid at the opens."""


def step_orders(targets_TPS: FloatArray, steps: Steps, account: Account) -> list[Fills]:
    """Return the fills of each parameter set, at every open.

    Parameters
    ----------
    targets_TPS : array [T, P, S]
        Position wanted at each open, a fraction of the equity there. Rounded towards the position
        held, so that an order is never larger than asked.
    steps : Steps
        Prices, costs and funding.
    account : Account
        Capital and lots.

    Returns
    -------
    list of Fills
        [S, T] each, of P. From a ruin on nothing is held.
    """
    held_TPS, order_TPS, rate_TPS = (np.zeros_like(targets_TPS) for _ in range(3))
    sets = range(targets_TPS.shape[1])
    cash_P = np.ones(len(sets))
    unit_PS = np.zeros(targets_TPS.shape[1:])  # of quote coin at price 1, in starting equities
    for t, open_S in enumerate(steps.open_TS):
        value_PS = unit_PS * open_S
        if steps.funding_TS is not None:
            cash_P = cash_P - value_PS @ steps.funding_TS[t]
        equity_P1 = (cash_P + value_PS.sum(axis=1))[:, None]
        solvent_P1 = equity_P1 > 0
        if steps.traded_T[t]:
            wanted_PS = targets_TPS[t] * equity_P1
            order_PS = np.where(
                solvent_P1, _ordered(wanted_PS, value_PS, open_S, account), -value_PS
            )
            if steps.waiting_TS is not None:
                order_PS[:, steps.waiting_TS[t]] = 0.0
            size_PS = np.abs(order_PS)
            rate_PS = steps.rate_P[:, None]
            if steps.impact_TPS is not None:
                rate_PS = rate_PS + np.nan_to_num(steps.impact_TPS[t]) * np.sqrt(size_PS)
            cash_P = cash_P - (order_PS + size_PS * rate_PS).sum(axis=1)
            unit_PS = unit_PS + order_PS / open_S
            unit_PS[np.abs(unit_PS * open_S) < DUST] = 0.0
            np.divide(order_PS, equity_P1, out=order_TPS[t], where=solvent_P1)
            rate_TPS[t] = rate_PS
        np.divide(unit_PS * open_S, equity_P1, out=held_TPS[t], where=solvent_P1)
    return [_fills(*(a_TPS[:, p].T for a_TPS in (held_TPS, order_TPS, rate_TPS))) for p in sets]


def _fills(held_ST: FloatArray, order_ST: FloatArray, rate_ST: FloatArray) -> Fills:
    size_ST = np.abs(order_ST)
    return Fills(
        np.ascontiguousarray(held_ST),
        np.ascontiguousarray(order_ST),
        np.ascontiguousarray(rate_ST),
        cost_K=(size_ST * rate_ST).sum(axis=0),
        turnover_K=size_ST.sum(axis=0),
        gross_K=np.abs(held_ST).sum(axis=0),
    )


def _ordered(
    wanted_PS: FloatArray, value_PS: FloatArray, open_S: FloatArray, account: Account
) -> FloatArray:
    """Return the order that the exchange takes, in starting equities."""
    order_PS = wanted_PS - value_PS
    order_PS[np.abs(order_PS) < DUST] = 0.0
    if account.lots is None:
        return order_PS
    closing_PS = wanted_PS == 0
    return np.where(
        closing_PS, -value_PS, _in_lots(order_PS, open_S, account.lots, account.capital)
    )


def _in_lots(order_PS: FloatArray, open_S: FloatArray, lots: Lots, capital: float) -> FloatArray:
    """Return the order in whole steps towards zero, 0 below a minimum."""
    qty_PS = order_PS * (capital / open_S)
    step_S = lots.qty_step_S
    whole_PS = np.trunc(qty_PS / np.where(step_S > 0, step_S, 1.0) * (1 + ROUNDING)) * step_S
    qty_PS = np.where(step_S > 0, whole_PS, qty_PS)
    notional_PS = np.abs(qty_PS) * open_S
    small_PS = (np.abs(qty_PS) < lots.min_qty_S * (1 - ROUNDING)) | (
        notional_PS < lots.min_notional_S
    )
    return np.where(small_PS, 0.0, qty_PS * (open_S / capital))
