"""How measures are written for people: one table for the picture and the page."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from flash_pipeline.backtest.metrics import Metrics

UNDEFINED = "n/a"
"""Written for a measure that is not defined."""


@dataclass(frozen=True)
class MetricRow:
    """One line of the table of measures."""

    field: str
    """Field of `Metrics`."""
    label: str
    """Name for people."""
    explanation: str
    """What is measured, in a few words."""
    write: Callable[[float], str]
    """Formats a defined value with its unit."""


def signed_percent(value: float) -> str:
    """Format a fraction as a percentage with its sign.

    Examples
    --------
    >>> signed_percent(-0.0312)
    '-3.12%'
    """
    return f"{value:+.2%}"


def percent(value: float) -> str:
    """Format a fraction as a percentage.

    Examples
    --------
    >>> percent(0.5)
    '50.00%'
    """
    return f"{value:.2%}"


def ratio(value: float) -> str:
    """Format a number without a unit, two decimals."""
    return f"{value:.2f}"


def count(value: float) -> str:
    """Format a count with thousands separated."""
    return f"{int(value):,}"


def multiple(value: float) -> str:
    """Format a multiple of the equity.

    Examples
    --------
    >>> multiple(1234.5)
    '1,234.5x'
    """
    return f"{value:,.1f}x"


METRIC_ROWS = (
    MetricRow("total_return_fraction", "Total return", "after costs", signed_percent),
    MetricRow("annual_return_fraction", "Annual return", "compounded to 365 days", signed_percent),
    MetricRow("annual_volatility_fraction", "Annual volatility", "of bar returns", percent),
    MetricRow("sharpe_annual", "Sharpe ratio", "annualised, risk-free rate 0", ratio),
    MetricRow(
        "sharpe_above_zero_probability",
        "Sharpe above 0",
        "probability, given length, skew and tails",
        percent,
    ),
    MetricRow("sortino_annual", "Sortino ratio", "annualised, downside over all bars", ratio),
    MetricRow("calmar_ratio", "Calmar ratio", "annual return over max drawdown", ratio),
    MetricRow("max_drawdown_fraction", "Max drawdown", "from a peak, start included", percent),
    MetricRow("longest_drawdown_bars", "Longest drawdown", "bars below a peak", count),
    MetricRow(
        "hit_rate_fraction", "Hit rate", "positive bars among those with a position", percent
    ),
    MetricRow("mean_return_t", "t-statistic", "of the mean return per bar", ratio),
    MetricRow("time_in_market_fraction", "Time in market", "bars with a position", percent),
    MetricRow(
        "mean_gross_exposure_multiple", "Mean gross exposure", "sum of absolute weights", percent
    ),
    MetricRow("turnover_per_year_multiple", "Turnover per year", "multiples of equity", multiple),
    MetricRow("total_costs_fraction", "Costs paid", "of the starting equity", percent),
    MetricRow("total_funding_fraction", "Funding paid", "of the starting equity", signed_percent),
    MetricRow("cost_share_fraction", "Cost share", "costs over profit before costs", percent),
    MetricRow("trades_count", "Trades", "orders filled", count),
)
"""The measures that are shown, in their order."""


def written(row: MetricRow, metrics: Metrics) -> str:
    """Return one measure as text, `UNDEFINED` for NaN and infinity."""
    value = float(getattr(metrics, row.field))
    return row.write(value) if math.isfinite(value) else UNDEFINED


def written_quality(value: float | str | None) -> str:
    """Return a measure of prediction quality as text: four significant digits.

    Examples
    --------
    >>> [written_quality(v) for v in (0.0123456, None, "5 of 5")]
    ['0.01235', 'n/a', '5 of 5']
    """
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return f"{value:.4g}"
