"""The four-panel picture of a backtest.

T bars

matplotlib is imported inside the functions, and only its object-oriented interface: no window,
no global figure, so pictures may be drawn from several threads.
"""

from collections.abc import Mapping
from io import BytesIO
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from flash_pipeline.backtest.charts import COLOURS
from flash_pipeline.backtest.formatting import METRIC_ROWS, percent, written
from flash_pipeline.backtest.metrics import Metrics, drawdown
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.market import iso_utc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (14.0, 10.0)
DPI = 150

STRATEGY, BENCHMARK, LOSS, INK, GRID = "#1d4e89", "#c98a1b", "#b3352f", "#22272e", "#d9dde3"

TAIL_PERCENT = 0.5
"""Share of the returns gathered in each end bin, so that a fat tail leaves the middle legible."""


def four_panel(
    result: BacktestResult,
    benchmark: BacktestResult,
    metrics: Metrics,
    *,
    benchmark_metrics: Metrics | None = None,
    baselines: Mapping[str, BacktestResult] | None = None,
    synthetic: bool = False,
) -> bytes:
    """Draw equity, drawdown, the distribution of returns and a table of measures.

    Parameters
    ----------
    result, benchmark : BacktestResult
        The strategy, and buying and holding over the same bars.
    metrics : Metrics
        Of the strategy.
    benchmark_metrics : Metrics or None
        Of the benchmark, a second column of the table.
    baselines : mapping of str to BacktestResult or None
        Simpler models by name, over the same bars: thin lines of equity.
    synthetic : bool
        Whether the market was simulated; the title then says so.

    Returns
    -------
    bytes
        A PNG of 2100 × 1500 pixels. Equal arguments give equal bytes: the file names neither
        the software nor a date.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2, left=0.06, right=0.975, top=0.875, bottom=0.065, hspace=0.27, wspace=0.14
    )
    axes = [figure.add_subplot(grid[row, column]) for row in (0, 1) for column in (0, 1)]
    _title(figure, result, synthetic=synthetic)
    _draw_equity(axes[0], result, benchmark, baselines or {})
    _draw_drawdown(axes[1], result, metrics)
    _draw_distribution(axes[2], result, metrics)
    _draw_table(axes[3], metrics, benchmark_metrics)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _title(figure: "Figure", result: BacktestResult, *, synthetic: bool) -> None:
    names = result.symbols
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    first, last = iso_utc(int(result.start_time_T[0])), iso_utc(result.end_time)
    figure.text(0.06, 0.955, shown, fontsize=17, fontweight="bold", color=INK, va="center")
    figure.text(
        0.06,
        0.922,
        f"{first} to {last} · {len(result.returns_T):,} bars · after {_paid(result)}",
        fontsize=11.5,
        color="#57606a",
        va="center",
    )
    if synthetic:
        figure.text(
            0.975,
            0.945,
            "SYNTHETIC MARKET",
            fontsize=15,
            fontweight="bold",
            color="white",
            ha="right",
            va="center",
            bbox={"boxstyle": "round,pad=0.45", "facecolor": LOSS, "edgecolor": "none"},
        )


def _paid(result: BacktestResult) -> str:
    return "costs" if result.funding_TS is None else "costs and funding"


def _draw_equity(
    axes: "Axes",
    result: BacktestResult,
    benchmark: BacktestResult,
    baselines: Mapping[str, BacktestResult],
) -> None:
    time_T = result.time_with_start.astype("datetime64[ms]")
    benchmark_T = benchmark.time_with_start.astype("datetime64[ms]")
    axes.axhline(1.0, color="#8b949e", linewidth=0.9, linestyle=(0, (4, 3)))
    for colour, (name, other) in zip(cycle(COLOURS[2:]), baselines.items(), strict=False):
        times_T = other.time_with_start.astype("datetime64[ms]")
        axes.plot(
            times_T, other.equity_with_start, color=colour, linewidth=0.8, alpha=0.7, label=name
        )
    axes.plot(
        benchmark_T,
        benchmark.equity_with_start,
        color=BENCHMARK,
        linewidth=1.3,
        label="Buy and hold, equal weights",
    )
    axes.plot(time_T, result.equity_with_start, color=STRATEGY, linewidth=1.8, label="Strategy")
    _panel(axes, "Equity, start = 1")
    size, columns = (8.5, 2) if baselines else (10, 1)
    axes.legend(
        loc="best", frameon=True, framealpha=0.85, edgecolor=GRID, fontsize=size, ncols=columns
    )
    _utc_axis(axes)


def _draw_drawdown(axes: "Axes", result: BacktestResult, metrics: Metrics) -> None:
    time_T = result.time_with_start.astype("datetime64[ms]")
    loss_T = drawdown(result)
    axes.fill_between(time_T, loss_T, 0.0, color=LOSS, alpha=0.3, linewidth=0)
    axes.plot(time_T, loss_T, color=LOSS, linewidth=1.0)
    axes.set_ylim(min(float(loss_T.min()) * 1.08, -0.001), 0.0)
    _percent_axis(axes.yaxis)
    _panel(axes, f"Drawdown, at most {percent(-metrics.max_drawdown_fraction)}")
    _utc_axis(axes)


def _draw_distribution(axes: "Axes", result: BacktestResult, metrics: Metrics) -> None:
    return_T = result.returns_T[result.active_T]
    title = "Returns per bar"
    if len(return_T) == 0:
        axes.text(0.5, 0.5, "no position was taken", ha="center", transform=axes.transAxes)
        _panel(axes, title)
        return
    tails = np.abs(np.percentile(return_T, [TAIL_PERCENT, 100 - TAIL_PERCENT]))
    reach = max(float(tails.max()), 1e-6)
    # An even number of bins, so that zero is an edge and no bar mixes gains with losses.
    edges = np.linspace(-reach, reach, 61)
    inside_T = np.clip(return_T, -reach, reach)
    gain_T, loss_T = inside_T[return_T > 0], inside_T[return_T <= 0]
    axes.hist(gain_T, bins=edges.tolist(), color=STRATEGY, alpha=0.85, label="gain")
    axes.hist(loss_T, bins=edges.tolist(), color=LOSS, alpha=0.75, label="no gain")
    axes.axvline(0.0, color=INK, linewidth=0.9)
    axes.axvline(
        float(return_T.mean()),
        color=BENCHMARK,
        linewidth=1.6,
        linestyle=(0, (4, 2)),
        label=f"mean {return_T.mean():+.4%}",
    )
    _percent_axis(axes.xaxis)
    _panel(axes, f"{title}, hit rate {percent(metrics.hit_rate_fraction)}")
    axes.set_xlabel("Net return of a bar with a position (tails in the end bins)", color=INK)
    axes.set_ylabel("Bars", color=INK)
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor=GRID, fontsize=10)


def _draw_table(axes: "Axes", metrics: Metrics, benchmark: Metrics | None) -> None:
    axes.axis("off")
    axes.set_title("Measures", loc="left", fontsize=13, fontweight="bold", color=INK)
    style: dict[str, Any] = {"transform": axes.transAxes, "fontsize": 11.5, "va": "center"}
    top, step = 0.955, 0.96 / (len(METRIC_ROWS) + 1)
    axes.text(0.70, top, "Strategy", ha="right", color=STRATEGY, fontweight="bold", **style)
    if benchmark is not None:
        axes.text(1.0, top, "Buy and hold", ha="right", color="#8a5d0c", fontweight="bold", **style)
    for line, row in enumerate(METRIC_ROWS, start=1):
        height = top - line * step
        axes.axhline(height + step / 2, color=GRID, linewidth=0.8)
        axes.text(0.0, height, row.label, color=INK, **style)
        axes.text(0.70, height, written(row, metrics), ha="right", color=INK, **style)
        if benchmark is not None:
            axes.text(1.0, height, written(row, benchmark), ha="right", color="#57606a", **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _panel(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#57606a", labelsize=10)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#8b949e")


def _utc_axis(axes: "Axes") -> None:
    from datetime import UTC

    from matplotlib import dates

    # matplotlib's date classes carry no annotations.
    locator = dates.AutoDateLocator(tz=UTC, minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    formatter = dates.ConciseDateFormatter(locator, tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    axes.margins(x=0.01)
    axes.set_xlabel("UTC", color=INK, loc="left")


def _percent_axis(axis: Any) -> None:  # noqa: ANN401  (an XAxis or a YAxis)
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    axis.set_major_locator(MaxNLocator(nbins=7))
    axis.set_major_formatter(PercentFormatter(xmax=1.0))
