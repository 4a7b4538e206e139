"""Many parameter sets on the same prices.

T bars · S symbols · P parameter sets
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np

from flash_pipeline.backtest.account import Account
from flash_pipeline.backtest.checks import checked_targets
from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.engine import Plan, bar_by_bar, every, finish, plan, run
from flash_pipeline.backtest.metrics import Metrics, summarise
from flash_pipeline.backtest.prices import FloatArray, Prices
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.errors import InvalidInput

CHUNK = 16
"""Sets in work at a time: the memory is that of so many, however many there are in all."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What each parameter set came to, in the order given."""

    metrics: tuple[Metrics, ...]
    """Measures of each set."""
    equity_PT: FloatArray | None
    """Equity at every close, if it was asked for: 8 bytes a set and bar."""

    def column(self, name: str) -> FloatArray:
        """Return one measure of all sets, shape [P]."""
        return np.array([float(getattr(metrics, name)) for metrics in self.metrics])


def simulate_many(
    targets: Iterable[FloatArray],
    prices: Prices,
    costs: Costs | Iterable[Costs],
    *,
    bars_per_year: float,
    gross_cap: float = 1.0,
    symbol_cap: float | None = None,
    rebalance_every: int = 1,
    funding_TS: FloatArray | None = None,
    account: Account | None = None,
    keep_equity: bool = False,
    workers: int = 2,
) -> Sweep:
    """Simulate and measure many parameter sets, a chunk of them at a time.

    Parameters
    ----------
    targets : iterable of array [T, S]
        Target weights of each set: an array [P, T, S], or a generator that makes one set after
        the other, so that they need not all be in memory.
    costs : Costs or iterable of Costs
        The same for all sets, or one for each.
    bars_per_year : float
        Of `summarise`.
    keep_equity : bool
        Whether to return every equity curve as well.
    workers : int
        Threads; numpy leaves the interpreter free while it computes.

    Returns
    -------
    Sweep
        As if each set had been simulated alone. With lots, or holes in the prices, the sets of a
        chunk go through the bars together.

    Raises
    ------
    InvalidInput
        As `simulate`, or if there are no sets, or fewer costs than sets.

    Notes
    -----
    The other arguments are those of `simulate`. The best of many sets looks good by luck: judge it
    with `deflated_sharpe`, the number of sets and the variance of their Sharpe ratios.
    """
    traded_T = every(rebalance_every, len(prices.start_time_T))
    account = account or Account()
    prices.moves  # noqa: B018  (computed here once, rather than by every thread)

    def measured(result: BacktestResult) -> tuple[Metrics, FloatArray | None]:
        return summarise(result, bars_per_year), result.equity_T if keep_equity else None

    def ready(targets_TS: FloatArray, own: Costs) -> Plan:
        checked = checked_targets(targets_TS, prices, gross_cap, symbol_cap)
        return plan(checked, prices, own, traded_T, funding_TS, account)

    def alone(targets_TS: FloatArray, own: Costs) -> tuple[Metrics, FloatArray | None]:
        return measured(run(ready(targets_TS, own)))

    outcomes: list[tuple[Metrics, FloatArray | None]] = []
    with ThreadPoolExecutor(workers) as pool:
        for chunk, own in _chunks(targets, costs):
            if account.lots is None and prices.real_TS is None:
                outcomes += pool.map(alone, chunk, own)
            else:
                plans = list(pool.map(ready, chunk, own))
                outcomes += map(measured, map(finish, plans, bar_by_bar(plans)))
    if not outcomes:
        raise InvalidInput("no targets are given: expected at least one set")
    curves = [equity_T for _, equity_T in outcomes if equity_T is not None]
    return Sweep(tuple(m for m, _ in outcomes), np.stack(curves) if curves else None)


def _chunks(
    targets: Iterable[FloatArray], costs: Costs | Iterable[Costs]
) -> Iterator[tuple[list[FloatArray], list[Costs]]]:
    """Yield some sets at a time with the costs of each."""
    sets = iter(targets)
    each = repeat(costs) if isinstance(costs, Costs) else iter(costs)
    while chunk := list(islice(sets, CHUNK)):
        own = list(islice(each, len(chunk)))
        if len(own) < len(chunk):
            raise InvalidInput("there are fewer costs than sets of targets: expected one for each")
        yield chunk, own
