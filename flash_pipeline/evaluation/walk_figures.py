"""The measures of a walk-forward as tables and as a picture."""

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.evaluation.scores import ALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = (
    "rank_ic",
    "rank_ic_t",
    "cross_sectional_ic",
    "icir",
    "hit_rate",
    "r2_against_zero",
    "pinball",
    "coverage",
)
"""Measures of the table of all models, of those that any of them has."""

Row = dict[str, str]

_FORMS = {"pinball": ".5f", "hit_rate": ".3f", "coverage": ".3f"}  # a loss in log returns; shares


def model_table(scores: pa.Table, scope: str = ALL) -> list[Row]:
    """Return the measures of every model over a scope as texts, with their 95 % intervals.

    Parameters
    ----------
    scores : pa.Table
        `scores.SCORE_SCHEMA`.
    scope : str
        `all`, a symbol or a month.

    Returns
    -------
    list of dict
        `model`, then each of `SHOWN` that any model has, such as `+0.021 [-0.004, +0.046]`; empty
        where it is not defined.
    """
    cells = {
        (row["model"], row["measure"]): _with_interval(row)
        for row in scores.filter(pc.equal(scores["scope"], scope)).to_pylist()
    }
    measures = [name for name in SHOWN if any(cells.get((m, name)) for m in _models(scores))]
    return [
        {"model": model, **{name: cells.get((model, name), "") for name in measures}}
        for model in _models(scores)
    ]


def scope_table(scores: pa.Table, measure: str = "rank_ic") -> list[Row]:
    """Return one measure of every model by symbol and by month as texts.

    Returns
    -------
    list of dict
        `scope`, `dates`, then each model; symbols first, months in their order.
    """
    chosen = scores.filter(pc.equal(scores["measure"], measure))
    rows: dict[str, Row] = {}
    for row in chosen.to_pylist():
        if row["scope"] != ALL:
            line = rows.setdefault(row["scope"], {"scope": row["scope"], "dates": ""})
            line["dates"] = f"{row['dates']:,}"
            line[row["model"]] = _plain(row)
    return list(rows.values())


def draw_scores(scores: pa.Table, *, synthetic: bool) -> bytes:
    """Draw every model's rank IC: over all dates with its interval, and by month.

    Parameters
    ----------
    scores : pa.Table
        `scores.SCORE_SCHEMA`.
    synthetic : bool
        Whether the prices come from the market simulator, which the picture then says.

    Returns
    -------
    bytes
        A PNG of 1500 x 675 pixels; equal scores give equal bytes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), dpi=150, layout="constrained")
    whole, monthly = figure.subplots(1, 2, width_ratios=(1, 1.6))
    chosen = scores.filter(pc.equal(scores["measure"], "rank_ic")).to_pylist()
    colours = {model: f"C{place}" for place, model in enumerate(_models(scores))}
    _draw_whole(whole, [row for row in chosen if row["scope"] == ALL], colours)
    _draw_months(monthly, [row for row in chosen if row["scope"][:2].isdigit()], colours)
    label = " (SYNTHETIC MARKET)" if synthetic else ""
    figure.suptitle(f"Walk-forward, out of sample{label}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_whole(axes: "Axes", rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    shown = [row for row in rows if row["value"] is not None][::-1]
    for place, row in enumerate(shown):
        colour = colours[row["model"]]
        axes.plot(row["value"], place, "o", color=colour)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=colour)
    axes.set_yticks(range(len(shown)), [row["model"] for row in shown])
    axes.axvline(0, color="0.5", linewidth=1)
    axes.set(title="all dates, 95 % interval", xlabel="rank IC")
    axes.grid(axis="x", alpha=0.3)


def _draw_months(axes: "Axes", rows: list[dict[str, Any]], colours: dict[str, str]) -> None:
    months = sorted({row["scope"] for row in rows})
    for model, colour in colours.items():
        known = {r["scope"]: r["value"] for r in rows if r["model"] == model}
        values = [known.get(month) for month in months]
        if any(value is not None for value in values):
            drawn = [float("nan") if value is None else value for value in values]
            axes.plot(range(len(months)), drawn, marker="o", color=colour, label=model)
    step = max(1, len(months) // 12)
    axes.set_xticks(range(0, len(months), step), months[::step], rotation=45, ha="right")
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set(title="by month", ylabel="rank IC")
    axes.grid(alpha=0.3)
    if axes.lines[:-1]:  # none but that of 0 where every model is flat
        axes.legend(fontsize="small")


def _models(scores: pa.Table) -> list[str]:
    return [str(name) for name in pc.unique(scores["model"]).to_pylist()]


def _with_interval(row: dict[str, Any]) -> str:
    if row["low"] is None:
        return _plain(row)
    return f"{_plain(row)} [{_plain(row, 'low')}, {_plain(row, 'high')}]"


def _plain(row: dict[str, Any], column: str = "value") -> str:
    if row[column] is None:
        return ""
    form = _FORMS.get(row["measure"], "+.3f")
    return f"{row[column]:{form}}"
