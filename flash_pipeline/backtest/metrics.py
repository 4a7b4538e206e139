"""Measures of a backtest, annualised with the bars of a calendar year.

T bars

All returns are net, simple and per bar; the risk-free rate and the target return are zero, as
idle cash earns nothing in the simulation. A measure that is not defined is NaN, and `null` in JSON.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from flash_pipeline.backtest.prices import FloatArray
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.errors import InvalidConfig

FLAT = 1e-12
"""A deviation per bar below this is rounding and counts as zero."""


@dataclass(frozen=True)
class Metrics:
    """Measures of one backtest; fractions unless a line says otherwise."""

    total_return: float
    """Last equity over the starting equity, minus 1."""
    annual_return: float
    """Geometric return per year: `(1 + total_return) ** (bars_per_year / T) - 1`."""
    annual_volatility: float
    """Sample standard deviation per bar, times sqrt(bars_per_year)."""
    sharpe: float
    """Mean over sample standard deviation, times sqrt(bars_per_year); NaN without volatility."""
    sortino: float
    """Mean over downside deviation, times sqrt(bars_per_year); NaN without a losing bar."""
    calmar: float
    """Annual return over the depth of the largest drawdown; NaN without a drawdown."""
    max_drawdown: float
    """Largest loss from a peak, 0 or negative; the starting equity counts as a peak."""
    hit_rate: float
    """Bars with a positive return among the bars with a position or a trade; NaN if none."""
    time_in_market: float
    """Bars with a position or a trade among all bars."""
    mean_gross_exposure: float
    """Mean over all bars of the sum of absolute weights."""
    turnover_per_year: float
    """Traded notional per year, in multiples of the equity."""
    total_costs: float
    """Fees and slippage paid, in units of the starting equity."""
    cost_share: float
    """Total costs over the profit before costs; NaN where that profit is not positive."""
    t_statistic: float
    """Mean over its standard error, `mean / (std / sqrt(T))`; NaN without volatility."""
    n_trades: int
    """Orders filled, a count."""
    n_bars: int
    """Bars of the backtest, a count."""

    def as_json(self) -> dict[str, float | int | None]:
        """Return the measures by name with None for NaN and infinity, which JSON lacks."""
        return {name: value if math.isfinite(value) else None for name, value in self.items()}

    def items(self) -> list[tuple[str, float]]:
        """Return names and values in the order of the fields."""
        return list(asdict(self).items())


def summarise(result: BacktestResult, bars_per_year: float) -> Metrics:
    """Measure a backtest.

    Parameters
    ----------
    result : BacktestResult
        Of a strategy or of a benchmark.
    bars_per_year : float
        Above 0; `Interval.bars_per_year`, 8,760 for hourly bars of a market that never closes.

    Returns
    -------
    Metrics
        NaN where a measure is not defined; each field says when.

    Raises
    ------
    InvalidConfig
        If `bars_per_year` is no positive number.

    Notes
    -----
    Sharpe: W. F. Sharpe (1994), "The Sharpe Ratio", Journal of Portfolio Management 21(1), ex
    post, sample deviation; scaling by the square root of time takes returns for uncorrelated.
    Sortino: F. Sortino and L. Price (1994), "Performance Measurement in a Downside Risk
    Framework", Journal of Investing 3(3): the downside deviation `sqrt(mean(min(r, 0)²))` is
    divided by all T bars, not by the losing ones.
    Calmar: T. W. Young (1991), "Calmar Ratio: A Smoother Tool", Futures 20(1), here over the
    whole period instead of 36 months.
    """
    if not (math.isfinite(bars_per_year) and bars_per_year > 0):
        raise InvalidConfig(f"bars_per_year is {bars_per_year!r}: expected a number above 0")
    returns_T = result.returns_T
    n_bars = len(returns_T)
    mean = float(returns_T.mean())
    deviation = float(returns_T.std(ddof=1))
    downside = math.sqrt(float(np.square(np.minimum(returns_T, 0.0)).mean()))
    annual = math.sqrt(bars_per_year)
    active_T = result.active_T
    annual_return = _annualised(float(result.equity_T[-1]), bars_per_year / n_bars)
    max_drawdown = float(drawdown(result).min())
    total_costs = float(result.costs_paid_TS.sum())
    return Metrics(
        total_return=float(result.equity_T[-1]) - 1,
        annual_return=annual_return,
        annual_volatility=deviation * annual,
        sharpe=_ratio(mean, deviation) * annual,
        sortino=_ratio(mean, downside) * annual,
        calmar=_ratio(annual_return, -max_drawdown),
        max_drawdown=max_drawdown,
        hit_rate=_ratio(float((returns_T[active_T] > 0).sum()), float(active_T.sum())),
        time_in_market=float(active_T.mean()),
        mean_gross_exposure=float(result.gross_T.mean()),
        turnover_per_year=float(result.turnover_T.mean()) * bars_per_year,
        total_costs=total_costs,
        cost_share=_ratio(total_costs, float(result.pnl_TS.sum())),
        t_statistic=_ratio(mean, deviation) * math.sqrt(n_bars),
        n_trades=result.n_trades,
        n_bars=n_bars,
    )


def drawdown(result: BacktestResult) -> FloatArray:
    """Return the loss from the highest equity so far, starting equity included.

    Returns
    -------
    array [T + 1]
        0 at a peak, else negative; the first row is the start, -1 is ruin.
    """
    equity_T = result.equity_with_start
    return np.asarray(equity_T / np.maximum.accumulate(equity_T) - 1)


def _ratio(value: float, positive: float) -> float:
    return value / positive if positive > FLAT else math.nan


def _annualised(growth: float, periods_per_year: float) -> float:
    try:
        return float(growth**periods_per_year) - 1
    except OverflowError:  # a few lucky bars, compounded over a year
        return math.inf
