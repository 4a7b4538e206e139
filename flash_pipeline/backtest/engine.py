"""A vectorised ledger of a portfolio that is brought to target weights at every open.

T bars · S symbols

    close of bar t-1        open of bar t                  close of bar t
    ─ target[t-1] decided ─ gap ─ fill to target[t-1] ─── bar ─ marked; target[t] decided ─

One step multiplies the equity by three growth factors, in this order:

    gap     1 + sum(held weight at the close × (open / previous close - 1)), less funding
    costs   1 - turnover × (fee + slippage), turnover = sum |target - drifted weight|
    bar     1 + sum(target × (close / open - 1))

Every bar is brought back to its target, so the weights before a fill follow from the target
before it alone and no loop over bars is needed. Inside, arrays are [S, T]: numpy is several times
faster along a long last axis than along a short one.
"""

import numpy as np

from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.prices import BoolArray, FloatArray, Prices, is_price
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.errors import InvalidConfig, InvalidInput

DUST = 1e-12
"""Orders below this fraction of the equity are rounding and are not sent."""

GROSS_TOLERANCE = 1e-9
"""Rounding allowed above the gross cap."""


def simulate(
    target_weights_TS: FloatArray,
    prices: Prices,
    costs: Costs,
    *,
    gross_cap: float = 1.0,
    funding_TS: FloatArray | None = None,
) -> BacktestResult:
    """Trade towards target weights and mark the account to market at every close.

    Parameters
    ----------
    target_weights_TS : array [T, S]
        Signed notional wanted, as a fraction of the equity. Row t may use everything up to the
        close of bar t and nothing later. It is filled at the open of bar t + 1, so it earns
        nothing of bar t's own move: shifting it up by a row is look-ahead. The last row is
        never filled, and bar 0 is always spent in cash.
    prices : Prices
        Opens (fills) and closes (marks). Where a symbol has no price its weight must be 0:
        nothing is traded and nothing earned. `Prices.carried_forward` fills holes.
    costs : Costs
        Fee and slippage on the traded notional.
    gross_cap : float
        Largest allowed sum of absolute weights in a row, above 0; 1 is no leverage.
    funding_TS : array [T, S] or None
        Rate that a long position held into the open of bar t pays there and a short receives,
        a fraction of its notional; 0 where no settlement falls. None charges no funding.

    Returns
    -------
    BacktestResult
        One row per bar. No closing trade: open positions are marked, not sold.

    Raises
    ------
    InvalidInput
        For a weight or funding rate that is not finite, a row above the cap, another shape than
        the prices', or no price where a position is held; with the bar and the symbol.
    InvalidConfig
        If `gross_cap` is no positive number.

    Notes
    -----
    Targets are fractions of the equity after the fill's costs, which are charged on
    `|target - drifted|` of the equity before them. That overstates costs by their square, less
    than one part in a million of the equity for a full reversal.

    When the equity reaches zero it stays there: the loss beyond it is the exchange's. Marks are
    opens and closes, so a ruin within a bar that its close recovers from is not seen.

    Examples
    --------
    >>> opens, closes = np.array([[100.0], [100.0]]), np.array([[100.0], [110.0]])
    >>> prices = Prices(np.array([0, 3_600_000]), opens, closes, ("BTCUSDT",))
    >>> free = Costs(fee_rate=0.0, slippage_rate=0.0)
    >>> simulate(np.array([[0.5], [0.5]]), prices, free).equity_T.round(6).tolist()
    [1.0, 1.05]
    """
    target_ST = _checked_targets(target_weights_TS, prices, gross_cap)
    held_ST = _shifted(target_ST)
    open_ST, close_ST = _prices_where_held(held_ST, prices)

    bar_move_ST = close_ST / open_ST
    bar_ST, bar_growth_T = _floored(held_ST * (bar_move_ST - 1))
    at_close_ST = _shifted(held_ST * bar_move_ST * _inverse(bar_growth_T))
    gap_move_ST = np.ones_like(open_ST)
    np.divide(open_ST[:, 1:], close_ST[:, :-1], out=gap_move_ST[:, 1:])
    at_open_ST = at_close_ST * gap_move_ST
    funding_paid_ST = _funding_paid(funding_TS, at_open_ST, prices)
    gap_ST, gap_growth_T = _floored(at_open_ST - at_close_ST - funding_paid_ST)

    order_ST = np.abs(held_ST - at_open_ST * _inverse(gap_growth_T))
    order_ST[order_ST < DUST] = 0.0
    cost_ST, cost_growth_T = _floored(-costs.rate * order_ST)

    growth_T = gap_growth_T * cost_growth_T * bar_growth_T
    equity_T: FloatArray = np.cumprod(growth_T, dtype=np.float64)
    before_T = np.concatenate([[1.0], equity_T[:-1]])
    filled_T = before_T * gap_growth_T
    # Nothing is traded or held once nothing is left, be it since the gap of this very bar.
    solvent_T = filled_T > 0
    order_ST *= solvent_T
    return BacktestResult(
        symbols=prices.symbols,
        start_time_T=prices.start_time_T,
        equity_T=equity_T,
        returns_T=np.where(before_T > 0, growth_T - 1, 0.0),
        gross_returns_T=np.where(before_T > 0, gap_growth_T * bar_growth_T - 1, 0.0),
        costs_T=np.where(solvent_T, 1 - cost_growth_T, 0.0),
        turnover_T=order_ST.sum(axis=0),
        weights_TS=(held_ST * solvent_T).T,
        pnl_TS=(before_T * gap_ST + filled_T * cost_growth_T * bar_ST).T,
        costs_paid_TS=(-filled_T * cost_ST).T,
        n_trades=int(np.count_nonzero(order_ST)),
        liquidated=bool(equity_T[-1] == 0),
    )


def _checked_targets(targets_TS: FloatArray, prices: Prices, gross_cap: float) -> FloatArray:
    if not (np.isfinite(gross_cap) and gross_cap > 0):
        raise InvalidConfig(f"gross_cap is {gross_cap!r}: expected a number above 0")
    target_ST = _symbols_first("target weights", targets_TS, prices)
    _reject("target weight", target_ST, ~np.isfinite(target_ST), prices)
    gross_T = np.abs(target_ST).sum(axis=0)
    if gross_T.max() > gross_cap + GROSS_TOLERANCE:
        bar = int(np.argmax(gross_T > gross_cap + GROSS_TOLERANCE))
        raise InvalidInput(
            f"gross weight at {prices.describe(bar)} is {gross_T[bar]:.6g}: "
            f"above the cap of {gross_cap:g}"
        )
    return target_ST


def _funding_paid(
    funding_TS: FloatArray | None, at_open_ST: FloatArray, prices: Prices
) -> FloatArray | float:
    """Return what each position pays at the open, a fraction of the equity at the close."""
    if funding_TS is None:
        return 0.0
    rate_ST = _symbols_first("funding rates", funding_TS, prices)
    paying_ST = at_open_ST != 0
    _reject("funding rate", rate_ST, paying_ST & ~np.isfinite(rate_ST), prices)
    return at_open_ST * np.where(paying_ST, rate_ST, 0.0)


def _prices_where_held(held_ST: FloatArray, prices: Prices) -> tuple[FloatArray, FloatArray]:
    """Return opens and closes with 1 wherever no position depends on them."""
    open_ST = np.ascontiguousarray(prices.open_TS.T)
    close_ST = np.ascontiguousarray(prices.close_TS.T)
    open_valid_ST, close_valid_ST = is_price(open_ST), is_price(close_ST)
    if open_valid_ST.all() and close_valid_ST.all():
        return open_ST, close_ST
    position_ST = held_ST != 0
    filled_ST = position_ST.copy()
    filled_ST[:, 1:] |= position_ST[:, :-1]  # the open after its last bar closes a position
    _reject("open", open_ST, filled_ST & ~open_valid_ST, prices)
    _reject("close", close_ST, position_ST & ~close_valid_ST, prices)
    return np.where(open_valid_ST, open_ST, 1.0), np.where(close_valid_ST, close_ST, 1.0)


def _symbols_first(what: str, array_TS: FloatArray, prices: Prices) -> FloatArray:
    array_TS = np.asarray(array_TS, dtype=np.float64)
    if array_TS.shape != prices.open_TS.shape:
        raise InvalidInput(
            f"{what} have shape {array_TS.shape}: expected the prices' {prices.open_TS.shape}"
        )
    return np.ascontiguousarray(array_TS.T)


def _reject(what: str, array_ST: FloatArray, bad_ST: BoolArray, prices: Prices) -> None:
    if bad_ST.any():
        bar = int(np.argmax(bad_ST.any(axis=0)))
        column = int(np.argmax(bad_ST[:, bar]))
        raise InvalidInput(
            f"{what} of {prices.symbols[column]} at {prices.describe(bar)} is "
            f"{array_ST[column, bar]}, and a position depends on it"
        )


def _shifted(array_ST: FloatArray) -> FloatArray:
    """Return every value one bar later, zeros in front."""
    later_ST = np.zeros_like(array_ST)
    later_ST[:, 1:] = array_ST[:, :-1]
    return later_ST


def _floored(share_ST: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return shares of the equity, cut so that no bar loses more than all, and the growth."""
    total_T = share_ST.sum(axis=0)
    ruined_T = total_T <= -1
    if ruined_T.any():
        share_ST = np.where(ruined_T, share_ST * _inverse(-total_T), share_ST)
    return share_ST, np.where(ruined_T, 0.0, 1 + total_T)


def _inverse(growth_T: FloatArray) -> FloatArray:
    """Return 1 / growth, and 0 where nothing is left."""
    return np.divide(1.0, growth_T, out=np.zeros_like(growth_T), where=growth_T > 0)
