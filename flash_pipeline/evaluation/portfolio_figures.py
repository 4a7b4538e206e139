"""The pictures of a portfolio's backtest.

Shape letters: T hours, A assets, P points.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import BacktestResult
from flash_pipeline.backtest.charts import COLOURS
from flash_pipeline.evaluation.portfolio import MODEL, Study
from flash_pipeline.market import iso_utc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

MOST_NAMED = 12
"""Assets that are drawn on their own; the smallest of more are drawn as one."""

Floats = npt.NDArray[np.float64]


def summary_picture(study: Study, *, synthetic: bool) -> bytes:
    """Draw equity, weights through time, exposure, and contribution by asset.

    Returns
    -------
    bytes
        A PNG of 2100 x 1500 pixels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 10), dpi=150, facecolor="white", layout="constrained")
    axes = figure.subplots(2, 2)
    model = study.results[MODEL]
    _draw_equity(axes[0, 0], study.results)
    _draw_weights(axes[0, 1], model)
    _draw_exposure(axes[1, 0], model)
    _draw_contributions(axes[1, 1], model)
    _title(figure, model, synthetic=synthetic)
    return _png(figure)


def weights_picture(result: BacktestResult, *, synthetic: bool) -> bytes:
    """Draw the weights through time as stacked areas: long above zero, short below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), dpi=130, facecolor="white", layout="constrained")
    _draw_weights(figure.subplots(), result)
    _title(figure, result, synthetic=synthetic)
    return _png(figure)


def attention_picture(attention_AA: Floats, symbols: tuple[str, ...], *, synthetic: bool) -> bytes:
    """Draw which assets the decision on each asset looked at.

    Parameters
    ----------
    attention_AA : array [A, A]
        Row: the asset decided on; column: the asset looked at; a row sums to 1, or is NaN. Assets
        without a row are left out.
    symbols : tuple of str
        Names.
    synthetic : bool
        Whether the market was simulated.
    """
    from matplotlib.figure import Figure

    kept = np.flatnonzero(np.isfinite(attention_AA).all(axis=1))
    shown = attention_AA[np.ix_(kept, kept)]
    names = [symbols[a].removesuffix("USDT") for a in kept]
    size = min(max(5.0, 0.32 * len(kept) + 2), 16)
    figure = Figure(figsize=(size + 1, size), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown, cmap="Blues", vmin=0)
    small = 8 if len(kept) <= 40 else 4
    axes.set_xticks(range(len(kept)), names, rotation=90, fontsize=small)
    axes.set_yticks(range(len(kept)), names, fontsize=small)
    axes.set_xlabel("asset looked at")
    axes.set_ylabel("asset decided on")
    label = " (SYNTHETIC)" if synthetic else ""
    axes.set_title(f"Attention across assets{label}", loc="left", fontsize=11, fontweight="bold")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the attention, over all lags")
    return _png(figure)


def grouped_weights(result: BacktestResult) -> tuple[list[str], Floats]:
    """Return the names and weights [T, N] of the largest assets, the others as one column."""
    size_A = np.abs(result.weights_TS).mean(axis=0)
    order = [int(a) for a in np.argsort(-size_A, kind="stable") if size_A[a] > 0]
    named, rest = order[:MOST_NAMED], order[MOST_NAMED:]
    names = [result.symbols[a] for a in named]
    columns = [result.weights_TS[:, a] for a in named]
    if rest:
        names.append(f"{len(rest)} others, net")
        columns.append(result.weights_TS[:, rest].sum(axis=1))
    empty = np.zeros((len(result.returns_T), 0))
    return names, np.stack(columns, axis=1) if columns else empty


def _draw_weights(axes: "Axes", result: BacktestResult) -> None:
    from matplotlib import colormaps

    names, weights_TN = grouped_weights(result)
    time_T = result.start_time_T.astype("datetime64[ms]")
    colours = [colormaps["tab20"](n % 20) for n in range(len(names))]
    if names:
        for part in (np.maximum(weights_TN, 0.0), np.minimum(weights_TN, 0.0)):
            axes.stackplot(time_T, part.T, colors=colours, linewidth=0)
        handles = [axes.plot([], [], color=c, linewidth=5)[0] for c in colours]
        axes.legend(handles, names, fontsize=7, ncols=3, loc="best", framealpha=0.8)
    axes.axhline(0.0, color="#22272e", linewidth=0.8)
    _panel(axes, "Weights through time, a share of the equity")
    axes.yaxis.set_major_formatter(_percent())


def _draw_equity(axes: "Axes", results: Mapping[str, BacktestResult]) -> None:
    for n, (name, result) in enumerate(results.items()):
        axes.plot(
            result.time_with_start.astype("datetime64[ms]"),
            result.equity_with_start,
            color=COLOURS[n % len(COLOURS)],
            linewidth=2.0 if name == MODEL else 1.0,
            label=name,
        )
    _panel(axes, "Equity after costs, start = 1")
    axes.legend(fontsize=8, framealpha=0.8)


def _draw_exposure(axes: "Axes", result: BacktestResult) -> None:
    time_T = result.start_time_T.astype("datetime64[ms]")
    axes.plot(time_T, result.gross_T, color=COLOURS[0], linewidth=1.4, label="gross")
    axes.plot(time_T, result.weights_TS.sum(axis=1), color=COLOURS[1], linewidth=1.2, label="net")
    traded = np.flatnonzero(result.turnover_T > 0)
    axes.vlines(
        time_T[traded], 0, result.turnover_T[traded], color=COLOURS[4], linewidth=1.0,
        alpha=0.6, label="traded",
    )  # fmt: skip
    axes.axhline(0.0, color="#22272e", linewidth=0.8)
    _panel(axes, "Exposure and turnover, a share of the equity")
    axes.yaxis.set_major_formatter(_percent())
    axes.legend(fontsize=8)


def _draw_contributions(axes: "Axes", result: BacktestResult) -> None:
    pnl_A = result.net_pnl_S
    order = [int(a) for a in np.argsort(pnl_A) if np.abs(result.weights_TS[:, a]).max() > 0]
    order = order if len(order) <= 30 else [*order[:15], *order[-15:]]
    colours = [COLOURS[4] if pnl_A[a] < 0 else COLOURS[2] for a in order]
    axes.barh(range(len(order)), pnl_A[order], color=colours)
    names = [result.symbols[a].removesuffix("USDT") for a in order]
    axes.set_yticks(range(len(order)), names, fontsize=7)
    _panel(axes, "Contribution by asset after costs, of the starting equity", dates=False)
    axes.xaxis.set_major_formatter(_percent())


def _panel(axes: "Axes", title: str, *, dates: bool = True) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(visible=True, color="#d9dde3", linewidth=0.7)
    axes.set_axisbelow(True)
    if dates:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.margins(x=0)


def _percent() -> "PercentFormatter":
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(xmax=1.0, decimals=1)


def _title(figure: "Figure", result: BacktestResult, *, synthetic: bool) -> None:
    label = "SYNTHETIC MARKET · " if synthetic else ""
    first, last = iso_utc(int(result.start_time_T[0])), iso_utc(result.end_time)
    figure.suptitle(
        f"{label}portfolio of {len(result.symbols)} assets, {first} to {last}",
        fontsize=12,
        color="#b3352f" if synthetic else "#22272e",
    )


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
