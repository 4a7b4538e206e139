"""Measures of a backtest, annualised with the bars of a calendar year.

T bars

All returns are net, simple and per bar; the risk-free rate and the target return are zero, as
idle cash earns nothing in the simulation. A measure that is not defined is NaN, and `null` in JSON.
The end of a name is its unit: a `fraction` (0.01 is 1 %), a `multiple` of the equity, a `ratio`
without unit, `annual` for one that grows with the square root of the years' bars, `bars`, `count`.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np

from flash_pipeline.backtest.prices import BoolArray, FloatArray
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.sharpe import moments, probabilistic_sharpe
from flash_pipeline.errors import InvalidConfig

FLAT = 1e-12
"""A deviation per bar below this is rounding and counts as zero."""


@dataclass(frozen=True)
class Metrics:
    """Measures of one backtest."""

    total_return_fraction: float
    """Last equity over the starting equity, minus 1."""
    annual_return_fraction: float
    """Geometric return per year: `(1 + total return) ** (bars_per_year / T) - 1`."""
    annual_volatility_fraction: float
    """Sample standard deviation per bar, times sqrt(bars_per_year)."""
    sharpe_annual: float
    """Mean over sample standard deviation, times sqrt(bars_per_year); NaN without volatility."""
    sortino_annual: float
    """Mean over downside deviation, times sqrt(bars_per_year); NaN without a losing bar."""
    calmar_ratio: float
    """Annual return over the depth of the largest drawdown; NaN without a drawdown."""
    sharpe_above_zero_probability: float
    """Probabilistic Sharpe ratio against 0, from 0 to 1; NaN without volatility."""
    skewness_ratio: float
    """Third standardised moment of the returns; NaN without volatility."""
    raw_kurtosis_ratio: float
    """Fourth standardised moment, 3 of a normal distribution; NaN without volatility."""
    max_drawdown_fraction: float
    """Largest loss from a peak, 0 or negative; the starting equity counts as a peak."""
    longest_drawdown_bars: int
    """Bars of the longest time below a peak, whether it ended or not."""
    hit_rate_fraction: float
    """Bars with a positive return among the bars with a position or a trade; NaN if none."""
    time_in_market_fraction: float
    """Bars with a position or a trade among all bars."""
    mean_gross_exposure_multiple: float
    """Mean over all bars of the sum of absolute weights, in multiples of the equity."""
    turnover_per_year_multiple: float
    """Traded notional per year, in multiples of the equity."""
    total_costs_fraction: float
    """Fees, slippage and impact paid, a fraction of the starting equity."""
    total_funding_fraction: float
    """Funding paid (received: below 0), a fraction of the starting equity; NaN if not charged."""
    cost_share_fraction: float
    """Costs over the profit before costs; NaN where that profit is not positive."""
    mean_return_t: float
    """t-statistic: mean over its standard error, `mean / (std / sqrt(T))`; NaN if flat."""
    trades_count: int
    """Orders filled."""
    bars_count: int
    """Bars of the backtest."""

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
    Probabilistic Sharpe ratio: `sharpe.probabilistic_sharpe`, with the raw kurtosis.
    """
    if not (math.isfinite(bars_per_year) and bars_per_year > 0):
        raise InvalidConfig(f"bars_per_year is {bars_per_year!r}: expected a number above 0")
    returns_T = result.returns_T
    n_bars, annual = len(returns_T), math.sqrt(bars_per_year)
    mean, deviation = float(returns_T.mean()), float(returns_T.std(ddof=1))
    downside = math.sqrt(float(np.square(np.minimum(returns_T, 0.0)).mean()))
    total_return = float(result.equity_T[-1]) - 1
    annual_return = _annualised(1 + total_return, bars_per_year / n_bars)
    loss_T = drawdown(result)
    costs = float((result.costs_T * result.open_equity_T).sum())
    active_T = result.active_T
    shape = moments(returns_T, flat=FLAT)
    return Metrics(
        total_return_fraction=total_return,
        annual_return_fraction=annual_return,
        annual_volatility_fraction=deviation * annual,
        sharpe_annual=_ratio(mean, deviation) * annual,
        sortino_annual=_ratio(mean, downside) * annual,
        calmar_ratio=_ratio(annual_return, -float(loss_T.min())),
        sharpe_above_zero_probability=probabilistic_sharpe(shape),
        skewness_ratio=shape.skewness,
        raw_kurtosis_ratio=shape.raw_kurtosis,
        max_drawdown_fraction=float(loss_T.min()),
        longest_drawdown_bars=_longest_run(loss_T < 0),
        hit_rate_fraction=_ratio(float((returns_T[active_T] > 0).sum()), float(active_T.sum())),
        time_in_market_fraction=float(active_T.mean()),
        mean_gross_exposure_multiple=float(result.gross_T.mean()),
        turnover_per_year_multiple=float(result.turnover_T.mean()) * bars_per_year,
        total_costs_fraction=costs,
        total_funding_fraction=_funding(result),
        cost_share_fraction=_ratio(costs, total_return + costs),
        mean_return_t=_ratio(mean, deviation) * math.sqrt(n_bars),
        trades_count=result.n_trades,
        bars_count=n_bars,
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


def _longest_run(below_T: BoolArray) -> int:
    ends = np.flatnonzero(np.concatenate([[True], ~below_T, [True]]))
    return int(np.diff(ends).max()) - 1


def _funding(result: BacktestResult) -> float:
    return float(result.funding_paid_TS.sum()) if result.funding_TS is not None else math.nan
