"""The series that the report's page draws, thinned to what a screen can show.

T bars · P points · S symbols
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flash_pipeline.backtest.metrics import drawdown
from flash_pipeline.backtest.prices import IntArray
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.rolling import (
    rolling_mean,
    rolling_rank_ic,
    rolling_sharpe,
    window_ends,
)

MOST_POINTS = 1_000
"""Points of a line: about one for each pixel of its width."""

MEAN_POINTS = 250
"""Points of a line of means, which many lines on one chart need to be told apart."""

DIGITS = 5
"""Significant digits that are kept."""

ROLLING_DAYS = 30
"""Length of the rolling windows, at most a third of the backtest."""

DAY_MS = 86_400_000
TAIL_PERCENT = 0.5
BINS = 60

COLOURS = ("#1d4e89", "#c98a1b", "#2b6a3f", "#7b3f8c", "#b3352f", "#2a8a94", "#8a6d3b", "#57606a")
"""Strategy, buy and hold, and the baselines or symbols in their order, over and over."""

BUY_AND_HOLD = "Buy and hold"


@dataclass(frozen=True)
class Chart:
    """One chart of the page."""

    key: str
    """Name of its place in the page."""
    title: str
    note: str
    """What is shown, in a few words."""
    unit: str
    """How values are written: `x`, `%`, or `` for plain numbers."""
    x: list[float]
    """Seconds since the epoch, or the middles of the bins of a histogram."""
    lines: list[dict[str, Any]]
    """Label, colour and values of each line."""
    kind: str = "line"
    """`line`, `area`, or `bars` for a histogram."""
    log: bool = False
    """Whether a logarithmic axis is offered."""


def charts(
    result: BacktestResult,
    benchmark: BacktestResult,
    baselines: Mapping[str, BacktestResult],
    predictions: pa.Table,
    bars_per_year: float,
) -> list[Chart]:
    """Return the charts of a backtest; rolling ones only where a window fits three times."""
    rivals = {"Strategy": result, BUY_AND_HOLD: benchmark, **baselines}
    bars_per_day = DAY_MS / result.bar_ms
    window = int(min(ROLLING_DAYS * bars_per_day, len(result.returns_T) // 3))
    drawn = [_equity(rivals), _drawdown(result, benchmark), _distribution(result)]
    if window >= 8:
        days = f"{window / bars_per_day:.3g} days"
        drawn += [
            _sharpe({n: rivals[n] for n in ("Strategy", BUY_AND_HOLD)}, window, days, bars_per_year)
        ]
        drawn += _rank_ic(predictions, window * result.bar_ms, days)
        drawn += [_turnover(result, window, days, bars_per_day)]
    return [*drawn, _costs(result), _exposure(result)]


def _equity(rivals: Mapping[str, BacktestResult]) -> Chart:
    first = next(iter(rivals.values()))
    at_P = _thin(len(first.equity_T) + 1)
    lines = [
        _line(name, i, r.equity_with_start[at_P]) for i, (name, r) in enumerate(rivals.items())
    ]
    note = "net of costs, start = 1; every line on the same dates, prices and costs"
    x = _seconds(first.time_with_start[at_P])
    return Chart("equity", "Equity", note, "x", x, lines, log=True)


def _drawdown(result: BacktestResult, benchmark: BacktestResult) -> Chart:
    # The deepest point between two drawn ones is what a drawdown is about.
    starts_P = _thin(len(result.equity_T) + 1)
    lines = [
        _line(name, i, np.minimum.reduceat(drawdown(r), starts_P))
        for i, (name, r) in enumerate((("Strategy", result), (BUY_AND_HOLD, benchmark)))
    ]
    x = _seconds(result.time_with_start[starts_P])
    return Chart("drawdown", "Drawdown", "loss from the highest equity", "%", x, lines, "area")


def _distribution(result: BacktestResult) -> Chart:
    return_T = result.returns_T[result.active_T]
    reach = 1e-6
    if len(return_T):
        tails = np.abs(np.percentile(return_T, [TAIL_PERCENT, 100 - TAIL_PERCENT]))
        reach = max(float(tails.max()), reach)
    edges = np.linspace(-reach, reach, BINS + 1)  # zero is an edge: no bin mixes gains and losses
    inside_T = np.clip(return_T, -reach, reach)
    lines = [
        _line(name, colour, np.where(counts > 0, counts, np.nan))
        for name, colour, counts in (
            ("no gain", 4, np.histogram(inside_T[return_T <= 0], edges)[0]),
            ("gain", 0, np.histogram(inside_T[return_T > 0], edges)[0]),
        )
    ]
    middles = (edges[1:] + edges[:-1]) / 2
    note = "net returns of bars with a position; the tails are in the end bins"
    x = [float(f"{v:.{DIGITS}g}") for v in middles]
    return Chart("returns", "Returns per bar", note, "", x, lines, "bars")


def _sharpe(
    rivals: Mapping[str, BacktestResult], window: int, days: str, bars_per_year: float
) -> Chart:
    lines = [
        _line(name, i, rolling_sharpe(r.returns_T, window, bars_per_year))
        for i, (name, r) in enumerate(rivals.items())
    ]
    x = _window_times(rivals["Strategy"], window)
    return Chart("sharpe", "Rolling Sharpe ratio", f"annualised, over {days}", "", x, lines)


def _rank_ic(predictions: pa.Table, window_ms: int, days: str) -> list[Chart]:
    found = rolling_rank_ic(predictions, window_ms)
    if found is None:
        return []
    ends_W, ic_W = found
    note = f"of predictions and returns by symbol, mean of the symbols, over {days}"
    return [Chart("ic", "Rolling rank IC", note, "", _seconds(ends_W), [_line("Rank IC", 0, ic_W)])]


def _turnover(result: BacktestResult, window: int, days: str, bars_per_day: float) -> Chart:
    daily_W = rolling_mean(result.turnover_T, window) * bars_per_day
    note = f"traded notional a day, in multiples of the equity, mean over {days}"
    x = _window_times(result, window)
    return Chart("turnover", "Turnover", note, "x", x, [_line("Turnover", 0, daily_W)])


def _costs(result: BacktestResult) -> Chart:
    at_P = _thin(len(result.equity_T))
    paid_T = np.cumsum(result.costs_T * result.open_equity_T)
    lines = [
        _line("Profit before costs", 2, (result.equity_T - 1 + paid_T)[at_P]),
        _line("Costs", 4, paid_T[at_P]),
        _line("Profit after costs", 0, result.equity_T[at_P] - 1),
    ]
    if result.funding_TS is not None:
        funding_T = np.cumsum(result.funding_paid_TS.sum(axis=1))
        lines.append(_line("Funding, part of both profits", 3, funding_T[at_P]))
    x = _seconds(result.start_time_T[at_P] + result.bar_ms)
    return Chart("costs", "What costs take", "of the starting equity, added up", "%", x, lines)


def _exposure(result: BacktestResult) -> Chart:
    starts_P = _thin(len(result.gross_T), MEAN_POINTS)
    size_P = np.diff(np.append(starts_P, len(result.gross_T)))
    lines = [
        _line(symbol, s, np.add.reduceat(result.weights_TS[:, s], starts_P) / size_P)
        for s, symbol in enumerate(result.symbols)
    ]
    lines.append(_line("Gross", 7, np.add.reduceat(result.gross_T, starts_P) / size_P))
    x = _seconds(result.start_time_T[starts_P])
    note = "signed weight by symbol, a share of the equity, means over time"
    return Chart("exposure", "Exposure", note, "%", x, lines)


def _line(label: str, colour: int, values: NDArray[np.generic]) -> dict[str, Any]:
    return {"label": label, "colour": COLOURS[colour % len(COLOURS)], "y": _rounded(values)}


def _thin(n_points: int, most: int = MOST_POINTS) -> IntArray:
    """Return at most so many rows of them, the first and the last among them."""
    spread = np.linspace(0, n_points - 1, min(n_points, most))
    return np.unique(spread.round().astype(np.int64))


def _window_times(result: BacktestResult, window: int) -> list[float]:
    return _seconds(result.start_time_T[window_ends(len(result.returns_T), window)] + result.bar_ms)


def _seconds(time_P: IntArray) -> list[float]:
    return [float(t) for t in (time_P // 1000).tolist()]


def _rounded(values: NDArray[np.generic]) -> list[float | None]:
    """Return numbers of `DIGITS` significant digits, None for NaN and infinity."""
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in values.tolist()]
