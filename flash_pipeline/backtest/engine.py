"""Simulates an account that is brought to target weights at the opens of bars.

    close of bar t-1        open of bar t                  close of bar t
    ─ target[t-1] decided ─ gap ─ fill to target[t-1] ─── bar ─ marked; target[t] decided ─

    checks ──► orders (all bars at once) ──────────► ledger ──► BacktestResult
          └──► stepwise (lots: bar by bar) ─────────┘   └── liquidation

T bars · S symbols · P parameter sets · K fills
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.account import Account
from flash_pipeline.backtest.checks import (
    Targets,
    check_prices,
    check_times,
    checked_funding,
    checked_targets,
    reject,
)
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.impact import impact_scale
from flash_pipeline.backtest.ledger import book
from flash_pipeline.backtest.orders import Course, Fills, solve_orders
from flash_pipeline.backtest.prices import BoolArray, FloatArray, IntArray, Prices
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.segments import expand, segment
from flash_pipeline.backtest.stepwise import Steps, step_orders
from flash_pipeline.errors import InvalidConfig, InvalidInput


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked simulation, ready to run."""

    prices: Prices
    costs: Costs
    account: Account
    wanted_ST: FloatArray
    """Target in force at each bar's open, a fraction of the equity there."""
    gross_T: FloatArray
    """Sum of its sizes."""
    traded_T: BoolArray | None
    """Bars at whose open is traded; None for every one."""
    funding_ST: FloatArray | None
    """Rates paid at each open."""
    impact_ST: FloatArray | None
    """Factor of `impact_scale`."""
    filled_ST: BoolArray | None
    """Where an order is filled, of prices with holes: at a symbol's own bars alone. None for
    prices without holes."""

    @property
    def stepwise(self) -> bool:
        """Whether it has to be gone through bar by bar: what is held depends on all before."""
        return self.account.lots is not None or self.filled_ST is not None


def simulate(
    target_weights_TS: FloatArray,
    prices: Prices,
    costs: Costs,
    *,
    gross_cap: float = 1.0,
    symbol_cap: float | None = None,
    rebalance_every: int = 1,
    funding_TS: FloatArray | None = None,
    account: Account | None = None,
    target_time_T: IntArray | None = None,
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
        nothing is traded and nothing earned. `Prices.carried_forward` fills holes. There the
        units held are frozen: an order waits for the symbol's first own open, which has the whole
        move since the last close, and is then of the newest target. A symbol that never opens
        again is marked at its last close. What is frozen comes on top of the others' targets, so
        that the gross may pass the cap until it opens.
    costs : Costs
        Fee, slippage and impact on the traded notional.
    gross_cap : float
        Largest allowed sum of absolute weights in a row, above 0; 1 is no leverage.
    symbol_cap : float or None
        Largest allowed size of one weight, above 0; None sets no cap of its own.
    rebalance_every : int
        Bars between trades, at least 1. Rows 0, h, 2h, ... are filled at the next open and the
        weights drift until the next of them; the rows between are not used.
    funding_TS : array [T, S] or None
        Rate that a long position held into the open of bar t pays there and a short receives,
        a fraction of its notional; 0 where no settlement falls, as of `funding_on_bars`. None
        charges no funding.
    account : Account or None
        Capital, maintenance margin and lots; None for those of `Account()`.
    target_time_T : array [T] or None
        Opens of the bars that the rows of the targets are of, ms since the epoch; None takes
        them for those of the prices.

    Returns
    -------
    BacktestResult
        One row per bar. No closing trade: open positions are marked, not sold.

    Raises
    ------
    InvalidInput
        For a weight or funding rate that is not finite, a row above a cap, another shape or other
        times than the prices', or no price where a position is held; with the bar and the symbol.
    InvalidConfig
        If a cap is no positive number, or the gross cap leaves no margin.

    Notes
    -----
    Targets are fractions of the equity at the open, before the fill's costs, as an order is sized
    before it is filled. A full position is thus leveraged by its costs. This is vectorbt's
    `targetpercent`.

    Examples
    --------
    >>> opens, closes = np.array([[100.0], [100.0]]), np.array([[100.0], [110.0]])
    >>> prices = Prices(np.array([0, 3_600_000]), opens, closes, ("BTCUSDT",))
    >>> free = Costs(fee_rate=0.0, slippage_rate=0.0)
    >>> simulate(np.array([[0.5], [0.5]]), prices, free).equity_T.round(6).tolist()
    [1.0, 1.05]
    """
    check_times(target_time_T, prices)
    targets = checked_targets(target_weights_TS, prices, gross_cap, symbol_cap)
    traded_T = every(rebalance_every, len(prices.start_time_T))
    account = account or Account()
    if gross_cap * account.maintenance_rate >= 1:
        raise InvalidConfig(
            f"gross_cap is {gross_cap:g}: expected below {1 / account.maintenance_rate:g}, where "
            "the maintenance margin is all of the equity"
        )
    return run(plan(targets, prices, costs, traded_T, funding_TS, account))


def every(bars: int, n_bars: int) -> BoolArray | None:
    """Return the bars at whose open is traded, None for all of them.

    Raises
    ------
    InvalidConfig
        If `bars` is below 1.
    """
    if bars < 1:
        raise InvalidConfig(f"rebalance_every is {bars}: expected at least 1 bar")
    if bars == 1:
        return None
    bar_T = np.arange(n_bars)
    return np.asarray((bar_T >= 1) & ((bar_T - 1) % bars == 0))


def plan(
    targets: Targets,
    prices: Prices,
    costs: Costs,
    traded_T: BoolArray | None,
    funding_TS: FloatArray | None,
    account: Account,
) -> Plan:
    """Keep targets in force until the next fill, and check the rest."""
    wanted_ST, gross_T = targets.wanted_ST, targets.gross_T
    if traded_T is not None:
        fill_T = np.maximum.accumulate(np.where(traded_T, np.arange(len(traded_T)), 0))
        wanted_ST, gross_T = wanted_ST[:, fill_T], gross_T[fill_T]
    check_prices(wanted_ST, prices)
    filled_ST = None
    if prices.real_TS is not None:
        filled_ST = _fillable(prices.real_TS.T, traded_T)
        fill_ST = np.maximum.accumulate(np.where(filled_ST, np.arange(filled_ST.shape[1]), 0), 1)
        wanted_ST = np.take_along_axis(wanted_ST, fill_ST, axis=1)
        gross_T = np.abs(wanted_ST).sum(axis=0)
    if account.lots is not None and len(account.lots.qty_step_S) != len(prices.symbols):
        raise InvalidInput(
            f"lots are of {len(account.lots.qty_step_S)} symbols: expected the prices' "
            f"{len(prices.symbols)}"
        )
    return Plan(
        prices=prices,
        costs=costs,
        account=account,
        wanted_ST=wanted_ST,
        gross_T=gross_T,
        traded_T=traded_T,
        funding_ST=checked_funding(funding_TS, wanted_ST, prices),
        impact_ST=impact_scale(prices, costs.impact, account.capital) if costs.impact else None,
        filled_ST=filled_ST,
    )


def _fillable(real_ST: BoolArray, traded_T: BoolArray | None) -> BoolArray:
    """Return a symbol's own bars that are bars of trading, or the first after one that it missed.

    Parameters
    ----------
    real_ST : array [S, T]
        Where a symbol has a bar of its own.
    traded_T : array [T] or None
        Bars of trading; None for all.
    """
    if traded_T is None:
        return real_ST
    bar_T = np.arange(real_ST.shape[1])
    asked_T = np.maximum.accumulate(np.where(traded_T, bar_T, -1))
    before_ST = np.full(real_ST.shape, -1)  # its last own bar before each
    before_ST[:, 1:] = np.maximum.accumulate(np.where(real_ST, bar_T, -1), axis=1)[:, :-1]
    return np.asarray(real_ST & (asked_T > before_ST))


def run(ready: Plan) -> BacktestResult:
    """Simulate a plan, bar by bar only where lots, holes or thin markets ask for it."""
    fills = None if ready.stepwise else _all_at_once(ready)
    return finish(ready, fills if fills is not None else bar_by_bar([ready])[0])


def finish(ready: Plan, fills: Fills) -> BacktestResult:
    """Book the fills of a plan."""
    if ready.impact_ST is not None:
        unknown_ST = ~np.isfinite(ready.impact_ST) & (fills.order_SK != 0)
        reject("market impact", ready.impact_ST, unknown_ST, ready.prices)
    return book(fills, ready.prices, ready.funding_ST, ready.account.maintenance_rate)


def bar_by_bar(ready: Sequence[Plan]) -> list[Fills]:
    """Return the fills of plans that share prices, funding, account and bars of trading."""
    first = ready[0]
    impacts = [plan.impact_ST for plan in ready if plan.impact_ST is not None]
    n_bars, filled_ST = len(first.prices.start_time_T), first.filled_ST
    traded_T = np.ones(n_bars, dtype=bool) if first.traded_T is None else first.traded_T
    steps = Steps(
        open_TS=first.prices.moves.open_ST.T,
        traded_T=traded_T if filled_ST is None else np.asarray(filled_ST.any(axis=0)),
        waiting_TS=None if filled_ST is None else ~filled_ST.T,
        rate_P=np.array([plan.costs.rate for plan in ready]),
        impact_TPS=np.stack([i_ST.T for i_ST in impacts], axis=1) if impacts else None,
        funding_TS=None if first.funding_ST is None else first.funding_ST.T,
    )
    return step_orders(np.stack([p.wanted_ST.T for p in ready], axis=1), steps, first.account)


def _all_at_once(ready: Plan) -> Fills | None:
    moves, funding_ST = ready.prices.moves, ready.funding_ST
    if ready.traded_T is not None:
        spans = segment(ready.wanted_ST, moves, ready.traded_T, funding_ST)
        fill_K = spans.fill_K
        impact_SK = None if ready.impact_ST is None else ready.impact_ST[:, fill_K]
        course = Course(
            ready.wanted_ST[:, fill_K], ready.gross_T[fill_K], spans.ratio_SK, spans.funding_K
        )
        fills = solve_orders(course, ready.costs.rate, impact_SK)
        return None if fills is None else expand(fills, spans)
    funding_T = None
    if funding_ST is not None:
        funding_T = np.zeros(funding_ST.shape[1])
        arriving_ST = ready.wanted_ST[:, :-1] * moves.next_ST[:, :-1]
        funding_T[:-1] = np.einsum("st,st->t", arriving_ST, funding_ST[:, 1:])
    course = Course(ready.wanted_ST, ready.gross_T, moves.next_ST, funding_T)
    return solve_orders(course, ready.costs.rate, ready.impact_ST)
