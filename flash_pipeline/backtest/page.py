"""The report's page: one HTML file that needs nothing from elsewhere.

The charts are drawn by uPlot (MIT), whose script is part of the page. A policy in the page lets
only these scripts run and nothing be loaded.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flash_pipeline.backtest.charts import Chart, charts
from flash_pipeline.backtest.context import FoldRow, ReportContext, assumptions, period
from flash_pipeline.backtest.formatting import (
    METRIC_ROWS,
    UNDEFINED,
    percent,
    ratio,
    signed_percent,
    written,
    written_quality,
)
from flash_pipeline.backtest.metrics import Metrics
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.rolling import by_symbol, monthly_returns
from flash_pipeline.backtest.verdict import Verdict
from flash_pipeline.market import iso_utc

Quality = Mapping[str, float | str | None]
"""Measures of the predictions themselves, by a name for people; None where not defined."""

TILES = (
    *("total_return_fraction", "sharpe_annual", "max_drawdown_fraction", "hit_rate_fraction"),
    *("turnover_per_year_multiple", "cost_share_fraction"),
)
"""Measures at the top of the page."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STRONG_MONTH = 0.15
"""Return of a month that is coloured in full."""


@dataclass(frozen=True)
class Content:
    """All that the page shows."""

    result: BacktestResult
    benchmark: BacktestResult
    baselines: Mapping[str, BacktestResult]
    metrics: Mapping[str, Metrics]
    """Of the strategy, of buying and holding, and of the baselines, by name and in this order."""
    verdict: Verdict
    deflated_sharpe: float | None
    """None if the number of trials is not known."""
    context: ReportContext
    predictions: pa.Table
    quality: Quality
    folds: Sequence[FoldRow]


def render(content: Content) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("flash_pipeline.backtest", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    context, result = content.context, content.result
    drawn = charts(
        result,
        content.benchmark,
        content.baselines,
        content.predictions,
        context.interval.bars_per_year,
    )
    return environment.get_template("report.html").render(
        symbols=", ".join(result.symbols),
        period=period(result),
        synthetic=context.synthetic,
        model_version=context.model_version,
        verdict=content.verdict,
        tiles=_tiles(content),
        charts=drawn,
        month_names=MONTHS,
        months=_months(content),
        columns=list(content.metrics),
        metrics=_measures(content),
        folds=[_fold(row) for row in content.folds],
        by_symbol=_symbols(result),
        quality=[(name, written_quality(value)) for name, value in content.quality.items()],
        assumptions=assumptions(result, context),
        **components(drawn),
    )


def components(drawn: Sequence[Chart]) -> dict[str, Markup]:
    """Return what every page of charts is made of, for its template.

    `page_style`, `library_style`, `library_script`, `page_script`, the `script_hashes` that its
    policy allows, and the `chart_data` of an element of the id `charts`. The script looks for an
    element `chart-<key>` for each chart, and for a button `reset`.
    """
    library, own = _library(), _resource("report.js")
    return {
        "page_style": Markup(_resource("style.css")),
        "library_style": Markup(_resource("uplot/uPlot.min.css")),
        "library_script": Markup(library),
        "page_script": Markup(own),
        "script_hashes": Markup(f"{_hash(library)} {_hash(own)}"),
        "chart_data": _json_in_html([asdict(chart) for chart in drawn]),
    }


def _tiles(content: Content) -> list[tuple[str, str]]:
    strategy = next(iter(content.metrics.values()))
    rows = {row.field: row for row in METRIC_ROWS}
    return [(rows[field].label, written(rows[field], strategy)) for field in TILES]


def _measures(content: Content) -> list[tuple[str, str, list[str]]]:
    rows = [
        (
            row.label,
            row.explanation,
            [written(row, metrics) for metrics in content.metrics.values()],
        )
        for row in METRIC_ROWS
    ]
    trials = content.context.trials
    if trials is not None and content.deflated_sharpe is not None:
        value = content.deflated_sharpe
        others = [""] * (len(content.metrics) - 1)
        text = percent(value) if math.isfinite(value) else UNDEFINED
        explanation = f"probability of a Sharpe ratio above 0 after {trials.count:,} trials"
        rows.append(("Deflated Sharpe", explanation, [text, *others]))
    return rows


def _months(content: Content) -> list[dict[str, Any]]:
    own, held = monthly_returns(content.result), monthly_returns(content.benchmark)
    years = sorted({year for year, _ in own})
    return [
        {
            "year": year,
            "cells": [_cell(own.get((year, month))) for month in range(1, 13)],
            "total": signed_percent(_compounded(own, year)),
            "held": signed_percent(_compounded(held, year)),
        }
        for year in years
    ]


def _compounded(returns: Mapping[tuple[int, int], float], year: int) -> float:
    return math.prod(1 + value for (y, _), value in returns.items() if y == year) - 1


def _cell(value: float | None) -> dict[str, str] | None:
    if value is None:
        return None
    strength = min(abs(value) / STRONG_MONTH, 1.0) * 0.45
    colour = "43,106,63" if value > 0 else "179,53,47"
    return {"text": f"{value:+.1%}", "colour": f"rgba({colour},{strength:.2f})"}


def _symbols(result: BacktestResult) -> list[tuple[str, ...]]:
    return [
        (
            row.symbol,
            signed_percent(row.net_pnl_fraction),
            percent(row.costs_fraction),
            signed_percent(row.funding_fraction) if result.funding_TS is not None else UNDEFINED,
            signed_percent(row.mean_weight),
            percent(row.mean_size),
            f"{row.trades_count:,}",
        )
        for row in by_symbol(result)
    ]


def _fold(row: FoldRow) -> tuple[str, ...]:
    def number(value: float, write: Any = lambda v: f"{v:+.4f}") -> str:  # noqa: ANN401
        return str(write(value)) if math.isfinite(value) else UNDEFINED

    return (
        row.name,
        f"{iso_utc(row.first_made_at)} to {iso_utc(row.last_made_at)}",
        number(row.rank_ic),
        f"{number(row.rank_ic_low)} to {number(row.rank_ic_high)}",
        number(row.net_return_fraction, signed_percent),
        number(row.sharpe_annual, ratio),
    )


def _library() -> str:
    """Return uPlot's script with its licence in place of the banner, which only links to it."""
    script = _resource("uplot/uPlot.iife.min.js")
    banner, code = script.split("\n", 1)
    name = banner[banner.index("(") + 1 : banner.index(")")]
    return f"/*! uPlot {name}\n{_resource('uplot/LICENSE').strip()} */\n{code}"


def _resource(name: str) -> str:
    return files("flash_pipeline.backtest").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _json_in_html(value: Any) -> Markup:  # noqa: ANN401
    """Return JSON that no browser takes for markup: a name may hold `</script>`."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
