"""Results as pictures, one per theme, drawn from the stored JSON alone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.gpu.bench import Row
from benchmarks.gpu.goals import in_order
from benchmarks.gpu.tables import distinct, find, note_cell, number

mpl.use("agg")

_KEPT, _AGAIN = "activations kept", "computed again"

COLORS = {
    "standard": "#8c8c8c",
    "reference": "#5c5c5c",
    "sdpa_flash": "#4c78a8",
    "flash_attn": "#f58518",
    "sdpa_cudnn": "#54a24b",
    "flash_attn_4": "#e45756",
    "sdpa": "#72b7b2",
    "sdpa_efficient": "#b279a2",
    "flex": "#9d755d",
    "tiled": "#bab0ac",
    "auto": "#1f2d3d",
    "standard, float32": "#5c5c5c",
    "standard, bf16": "#8c8c8c",
    _KEPT: "#4c78a8",
    _AGAIN: "#f58518",
}
"""One colour per attention backend, or what else is compared, in every plot."""

_INK = "#333333"
_MET, _MISSED = "#54a24b", "#e45756"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw a result, with what it was measured on below the title."""
    figure = PLOTS[result["theme"]](result["rows"])
    versions = result["versions"]
    small = f"{result['hardware']}, torch {versions['torch']}, CUDA {versions['cuda']}"
    figure.suptitle(f"{result['title']}\n{small}, {result['date']}", fontsize=10, color=_INK)
    figure.savefig(path, dpi=120, facecolor="white")


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _axes(axes: Axes, title: str, x: str, y: str) -> Axes:
    axes.set_title(title, fontsize=10, color=_INK)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.grid(visible=True, which="major", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _lines(
    axes: Axes, rows: Sequence[Row], value: Callable[[Row], float | None], series: str = "backend"
) -> None:
    """Draw a line over length for each backend, both axes logarithmic."""
    for (name,) in distinct(rows, series):
        points = [(row["length"], value(row)) for row in rows if row[series] == name]
        known = [(x, y) for x, y in points if y]
        if known:
            color = COLORS.get(str(name), _INK)
            style = "o--" if name == "sdpa" else "o-"  # it runs one of the others, and hides it
            axes.plot(*zip(*known, strict=True), style, ms=4, lw=1.6, color=color, label=str(name))
    axes.set_xscale("log", base=2)
    if axes.lines:
        _plain_log(axes, "y")
    lengths = sorted({row["length"] for row in rows}) or [1]
    axes.set_xticks(lengths, [f"{x:,}" for x in lengths], rotation=30, ha="right")
    axes.set_xlim(lengths[0] / 1.4, lengths[-1] * 1.4)
    axes.xaxis.set_minor_locator(NullLocator())


def _plain_log(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, its ticks written out; within two decades 2 and 5 have theirs."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    close = low > 0 and high < 300 * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if close else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))
    axis.set_minor_locator(NullLocator())


def _tick(value: float) -> str:
    """Return a tick's figure, short enough to stand beside the next one."""
    return f"{value / 1e6:g} M" if value >= 1e6 else number(value)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Draw one legend below, of every label that occurs."""
    found: dict[str, Any] = {}
    for each in axes:
        handles, labels = each.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    if found:
        handles, labels = list(found.values()), list(found)
        place = "outside lower center"
        figure.legend(handles, labels, loc=place, ncols=6, fontsize=8, frameon=False)


def _bars(
    axes: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | str]],
    log: bool = True,
) -> None:
    """Draw groups of bars; where there is none, words stand in its place."""
    width = 0.8 / max(1, len(series))
    for i, (name, values) in enumerate(series.items()):
        places = [g + (i - (len(series) - 1) / 2) * width for g in range(len(groups))]
        color = COLORS.get(name)
        known = [(x, y) for x, y in zip(places, values, strict=True) if not isinstance(y, str)]
        xs, ys = zip(*known, strict=True) if known else ((), ())
        bars = axes.bar(xs, ys, width * 0.92, label=name, color=color)
        axes.bar_label(bars, [number(y) for y in ys], fontsize=6, padding=1)
        for x, words in zip(places, values, strict=True):
            if isinstance(words, str):
                low = axes.get_xaxis_transform()
                style: dict[str, Any] = {"rotation": 90, "fontsize": 7, "color": _INK}
                axes.text(x, 0.02, words, ha="center", va="bottom", transform=low, **style)
    if log and axes.patches:
        _plain_log(axes, "y")
    axes.xaxis.grid(visible=False)
    axes.set_xticks(range(len(groups)), groups, fontsize=8)
    axes.set_xlim(-0.6, len(groups) - 0.4)


def _chapter(rows: Sequence[Row]) -> Figure:
    figure = _figure(12, 4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.7))
    memory = [row for row in rows if row["table"] == "memory" and row["phase"] == "both"]
    _axes(left, "Memory beyond the operands, one window", "length", "MiB")
    _lines(left, memory, lambda row: (row["peak_gib"] or 0) * 1024)
    speed = [row for row in rows if row["table"] == "speed"]
    cases = distinct(speed, "phase", "length")
    series = {
        str(name): [_value(speed, "ms", phase=p, length=t, backend=name) for p, t in cases]
        for (name,) in distinct(speed, "backend")
    }
    _axes(right, "Time", "", "ms")
    _bars(right, [f"{p}\n{t:,}" for p, t in cases], series)
    _legend(figure, [left, right])
    return figure


def _feasibility(rows: Sequence[Row]) -> Figure:
    figure = _figure(11, 4.8)
    full = max(row["batch"] for row in rows)
    axes = _axes(figure.subplots(), f"Training step of {full} windows", "", "ms")
    cases = distinct(rows, "case", "steps")
    series = {
        str(name): [_feasible(rows, full, case=case, backend=name) for case, _ in cases]
        for (name,) in distinct(rows, "backend")
    }
    _bars(axes, [f"{case}\n({steps:,})" for case, steps in cases], series)
    _legend(figure, [axes])
    return figure


def _feasible(rows: Sequence[Row], batch: int, **wanted: object) -> float | str:
    """Return the time of a full batch; where only one window was trained, those words."""
    row = find(rows, **wanted)
    if row is not None and row["ms"] and row["batch"] < batch:
        return f"out of memory; 1 window: {number(row['ms'], 'ms')}"
    return _value(rows, "ms", **wanted)


def _growth(rows: Sequence[Row]) -> Figure:
    figure = _figure(10, 7.2)
    grid = figure.subplots(2, 2)
    names = {"attention": "Attention alone", "step": "Whole training step"}
    for column, (work, title) in enumerate(names.items()):
        chosen = [row for row in rows if row["work"] == work]
        _axes(grid[0][column], title, "length", "ms")
        _lines(grid[0][column], chosen, lambda row: row["ms"])
        _axes(grid[1][column], title, "length", "peak GiB")
        _lines(grid[1][column], chosen, lambda row: row["peak_gib"])
    _legend(figure, list(grid.flat))
    return figure


def _kernels(rows: Sequence[Row]) -> Figure:
    timed = [row for row in rows if row["ms"]] or rows
    spans = [span for span in ("causal", "sliding", "full") if find(timed, span=span)]
    heads = sorted({(row["head_size"], row["heads"]) for row in timed})
    figure = _figure(3.6 * len(heads), 2.6 * len(spans) + 0.9)
    grid = figure.subplots(len(spans), len(heads), squeeze=False)
    for i, span in enumerate(spans):
        for j, (size, n_heads) in enumerate(heads):
            chosen = [row for row in rows if row["span"] == span and row["head_size"] == size]
            axes = _axes(grid[i][j], f"{span}, {n_heads} heads x {size}", "length", "TFLOP/s")
            _lines(axes, chosen, lambda row: row["tflops"])
            if not axes.lines:
                axes.set_axis_off()
                axes.text(
                    0.5, 0.5, "not run yet", ha="center", color=_INK, transform=axes.transAxes
                )
    _legend(figure, list(grid.flat))
    return figure


def _throughput(rows: Sequence[Row]) -> Figure:
    figure = _figure(9, 0.5 * len(rows) + 1.6)
    axes = _axes(figure.subplots(), "", "TFLOP/s", "")
    names = [
        f"{row['work']}" + (f", {row['batch']} x {row['length']:,}" if "batch" in row else "")
        for row in rows
    ]
    values = [row["tflops"] or 0 for row in rows]
    labels = [
        number(row["tflops"]) + (f" ({100 * row['mfu']:.0f} %)" if row["mfu"] else "")
        for row in rows
    ]
    _horizontal(axes, names, values, labels, ["#4c78a8"] * len(rows))
    return figure


def _goals(rows: Sequence[Row]) -> Figure:
    timed = [row for row in in_order(rows) if row["ms"]]
    figure = _figure(10, 0.3 * len(timed) + 1.6)
    axes = _axes(figure.subplots(), "", "ms (green: goal met, red: missed, grey: no goal)", "")
    names = [_goal_name(row, timed) for row in timed]
    tints = {True: _MET, False: _MISSED, None: "#b8b8b8"}
    labels = [
        number(row["ms"], "ms") + (f" (goal {row['goal']})" if row["goal"] else "") for row in timed
    ]
    colors = [tints[row["met"]] for row in timed]
    _horizontal(axes, names, [row["ms"] for row in timed], labels, colors)
    if timed:
        _plain_log(axes, "x")
    axes.margins(x=0.25)
    return figure


def _goal_name(row: Row, rows: Sequence[Row]) -> str:
    """Return a label that no other row has: where two would share it, their shapes are added."""
    alike = [each for each in rows if each["work"] == row["work"]]
    shared = sum(each["variant"] == row["variant"] for each in alike) > 1
    return f"{row['work']}: {row['variant']}" + (f" ({row['shape']})" if shared else "")


def _recompute(rows: Sequence[Row]) -> Figure:
    figure = _figure(8, 4)
    cases = distinct(rows, "batch", "length")
    for axes, field, unit in zip(figure.subplots(1, 2), ("ms", "peak_gib"), ("ms", "GiB"),
                                 strict=True):  # fmt: skip
        series = {
            name: [_value(rows, field, batch=b, length=t, recompute=again) for b, t in cases]
            for again, name in ((False, _KEPT), (True, _AGAIN))
        }
        _axes(axes, "Time" if unit == "ms" else "Peak memory", "batch x length", unit)
        _bars(axes, [f"{b} x {t:,}" for b, t in cases], series, log=False)
    _legend(figure, figure.axes)
    return figure


def _windows(rows: Sequence[Row]) -> Figure:
    figure = _figure(11, 0.3 * len(rows) + 1.6)
    left, right = figure.subplots(1, 2)
    written = [row for row in rows if row["work"] == "write"]
    cut = [row for row in rows if row["work"] == "cut"]
    _axes(left, "A year on disk", "MB", "")
    megabytes = [row["bytes"] / 1e6 for row in written]
    names = [row["layout"] for row in written]
    _horizontal(left, names, megabytes, [number(x) for x in megabytes], ["#4c78a8"] * len(names))
    _axes(right, "Random batches", "windows/s", "")
    rates = [row["windows_per_s"] for row in cut]
    names = [f"{row['layout']}\n({row['device']}, batches of {row['windows']})" for row in cut]
    _horizontal(right, names, rates, [number(x) for x in rates], ["#4c78a8"] * len(names))
    for axes in (left, right):
        _plain_log(axes, "x")
        axes.margins(x=0.3)
    return figure


def _sequences(rows: Sequence[Row]) -> Figure:
    grown = [row for row in rows if row["table"] == "growth"]
    figure = _figure(11, 7.2)
    cases = distinct(grown, "model", "work")
    grid = figure.subplots(2, max(1, len(cases)), squeeze=False)
    for column, (model, work) in enumerate(cases):
        chosen = [row for row in grown if (row["model"], row["work"]) == (model, work)]
        _axes(grid[0][column], f"{model}, {work}", "tokens", "ms")
        _lines(grid[0][column], chosen, lambda row: row["ms"])
        _axes(grid[1][column], f"{model}, {work}", "tokens", "peak GiB")
        _lines(grid[1][column], chosen, lambda row: row["peak_gib"])
    _legend(figure, list(grid.flat))
    return figure


def _latency(rows: Sequence[Row]) -> Figure:
    timed = [row for row in rows if row["ms"]]
    figure = _figure(9, 0.4 * len(timed) + 1.6)
    axes = _axes(figure.subplots(), "", "median, ms", "")
    names = [
        row["variant"] + (f", {row['threads']} threads" if row["threads"] else "") for row in timed
    ]
    labels = [f"{number(row['ms'])} (p99 {number(row['p99'])})" for row in timed]
    _horizontal(axes, names, [row["ms"] for row in timed], labels, ["#4c78a8"] * len(timed))
    return figure


def _horizontal(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    colors: Sequence[str],
) -> None:
    """Draw bars from the top down, each with its label."""
    places = range(len(names))
    bars = axes.barh(places, values, 0.7, color=colors[: len(names)])
    axes.bar_label(bars, labels, fontsize=7, padding=3)
    axes.set_yticks(places, names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.yaxis.grid(visible=False)
    axes.margins(x=0.18)


def _value(rows: Sequence[Row], field: str, **wanted: object) -> float | str:
    """Return a figure of the row with these values; where there is none, why."""
    row = find(rows, **wanted)
    if row is None:
        return ""
    found: float | None = row[field]
    return note_cell(row["note"]) if found is None else found


PLOTS: dict[str, Callable[[Sequence[Row]], Figure]] = {
    "chapter": _chapter,
    "feasibility": _feasibility,
    "growth": _growth,
    "kernels": _kernels,
    "throughput": _throughput,
    "goals": _goals,
    "recompute": _recompute,
    "windows": _windows,
    "sequences": _sequences,
    "latency": _latency,
}
"""By theme."""
