"""The report of a portfolio's backtest, in the same forms as that of the price model.

<folder>/report.html      self-contained and interactive
<folder>/report.png       equity, weights, exposure, contributions
<folder>/weights.png      weights through time
<folder>/attention.png    which asset looked at which
<folder>/metrics.json     every number of the page
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined

from flash_pipeline.backtest import BacktestResult, Costs
from flash_pipeline.backtest.charts import COLOURS, Chart
from flash_pipeline.backtest.formatting import (
    METRIC_ROWS,
    UNDEFINED,
    percent,
    signed_percent,
    written,
)
from flash_pipeline.backtest.page import components
from flash_pipeline.backtest.rolling import by_symbol
from flash_pipeline.evaluation.portfolio import EQUAL, MODEL, RivalConfig, Study
from flash_pipeline.evaluation.portfolio_figures import (
    attention_picture,
    summary_picture,
    weights_picture,
)
from flash_pipeline.evaluation.statistics import Interval
from flash_pipeline.market import iso_utc
from flash_pipeline.storage.files import replacing_folder
from flash_pipeline.training.portfolio_session import Decisions

MOST_POINTS = 800
"""Points of a line."""


@dataclass(frozen=True)
class PortfolioReport:
    """A written report, for whoever shows or links it."""

    folder: Path
    """Where the files lie."""
    numbers: Mapping[str, Any]
    """As in `metrics.json`."""
    pictures: Mapping[str, bytes]
    """PNGs by file name."""


def write_portfolio_report(
    folder: Path,
    study: Study,
    decisions: Decisions,
    costs: Costs,
    rivals: RivalConfig,
    *,
    synthetic: bool,
) -> PortfolioReport:
    """Write a study's folder, whole or not at all; one that is there is replaced.

    Parameters
    ----------
    folder : Path
        The report's own.
    study : Study
        Everyone's backtest.
    decisions : Decisions
        What was traded.
    costs, rivals
        As for `study_portfolio`.
    synthetic : bool
        Whether the market was simulated, which page and pictures then say.
    """
    model = study.results[MODEL]
    pictures = {
        "report.png": summary_picture(study, synthetic=synthetic),
        "weights.png": weights_picture(model, synthetic=synthetic),
        "attention.png": attention_picture(
            decisions.attention_AA, decisions.symbols, synthetic=synthetic
        ),
    }
    told = _assumptions(study, decisions, costs, rivals, synthetic=synthetic)
    numbers = _json_safe(_numbers(study, decisions, dict(told), synthetic=synthetic))
    page = _page(study, decisions, pictures, told, synthetic=synthetic)
    with replacing_folder(folder) as temporary:
        (temporary / "report.html").write_text(page, encoding="utf-8")
        for name, png in pictures.items():
            (temporary / name).write_bytes(png)
        text = json.dumps(numbers, indent=2, allow_nan=False)
        (temporary / "metrics.json").write_text(text + "\n", encoding="utf-8")
    return PortfolioReport(folder, numbers, pictures)


def _page(
    study: Study,
    decisions: Decisions,
    pictures: Mapping[str, bytes],
    told: Sequence[tuple[str, str]],
    *,
    synthetic: bool,
) -> str:
    environment = Environment(
        loader=PackageLoader("flash_pipeline.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    model = study.results[MODEL]
    drawn = _charts(study)
    return environment.get_template("portfolio.html").render(
        assets=len(model.symbols),
        period=f"{iso_utc(int(model.start_time_T[0]))} to {iso_utc(model.end_time)}",
        version=decisions.facts.get("version", "not registered"),
        synthetic=synthetic,
        verdict=study.verdict,
        charts=drawn,
        columns=list(study.metrics),
        metrics=[
            (row.label, row.explanation, [written(row, m) for m in study.metrics.values()])
            for row in METRIC_ROWS
        ],
        ahead=[_span(study.ahead.get(name)) for name in study.metrics],
        variants=_span(study.variants),
        seeds=[(name, f"{value:.2f}") for name, value in study.seeds.items()],
        by_asset=_assets(model),
        fits=[_fit(fit, decisions) for fit in decisions.facts["fits"]],
        assumptions=told,
        pictures={
            name.removesuffix(".png"): base64.b64encode(png).decode("ascii")
            for name, png in pictures.items()
        },
        **components(drawn),
    )


def _charts(study: Study) -> list[Chart]:
    model = study.results[MODEL]
    hours = len(model.returns_T)
    at_P = np.unique(np.linspace(0, hours, min(hours + 1, MOST_POINTS)).round().astype(np.int64))
    equity = [
        _line(name, n, result.equity_with_start[at_P])
        for n, (name, result) in enumerate(study.results.items())
    ]
    held_P = np.minimum(at_P, hours - 1)
    exposure = [
        _line("Gross", 0, model.gross_T[held_P]),
        _line("Net", 1, model.weights_TS.sum(axis=1)[held_P]),
    ]
    turnover = [
        _line(name, n, np.cumsum(study.results[name].turnover_T)[held_P])
        for n, name in enumerate(study.results)
    ]
    members = [_line("Members", 0, study.member_TA.sum(axis=1).astype(np.float64)[held_P])]
    x = (model.time_with_start[at_P] // 1000).astype(np.float64).tolist()
    note = "net of costs, start = 1; the same dates, prices and costs for every line"
    return [
        Chart("equity", "Equity", note, "x", x, equity, log=True),
        Chart("exposure", "Exposure of the model", "a share of the equity", "%", x, exposure),
        Chart("turnover", "Turnover", "traded so far, in equities", "x", x, turnover),
        Chart("members", "Members of the market", "chosen as of each date", "", x, members),
    ]


def _line(label: str, colour: int, values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "label": label,
        "colour": COLOURS[colour % len(COLOURS)],
        "y": [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()],
    }


def _assets(model: BacktestResult) -> list[tuple[str, ...]]:
    held = [row for row in by_symbol(model) if row.mean_size > 0]
    return [
        (
            row.symbol,
            signed_percent(row.net_pnl_fraction),
            percent(row.costs_fraction),
            signed_percent(row.mean_weight),
            percent(row.mean_size),
            f"{row.trades_count:,}",
        )
        for row in sorted(held, key=lambda row: -row.net_pnl_fraction)
    ]


def _fit(fit: Mapping[str, Any], decisions: Decisions) -> tuple[str, ...]:
    chosen = {(each["fold"], each["training"]) for each in decisions.facts["chosen"]}
    best = min(look["validation_loss"] for look in fit["history"])
    return (
        str(fit["fold"]),
        fit["training"],
        f"{best:+.4f}",
        str(fit["best_step"]),
        f"{fit['seconds']:.1f} s",
        "chosen" if (fit["fold"], fit["training"]) in chosen else "",
    )


def _span(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.value):
        return UNDEFINED
    if math.isnan(interval.low):
        return f"{interval.value:+.2f}"
    return f"{interval.value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def _assumptions(
    study: Study, decisions: Decisions, costs: Costs, rivals: RivalConfig, *, synthetic: bool
) -> list[tuple[str, str]]:
    recipe, model = decisions.facts["recipe"], study.results[MODEL]
    sizes, universe = recipe["model"], recipe["universe"]
    held = f"{recipe['horizon']} hours"
    return [
        ("Market", "synthetic, from the simulator" if synthetic else "recorded candles"),
        (
            "Universe",
            f"the {universe['n_assets']} most traded of the {universe['trailing_hours']} hours "
            f"before, chosen anew every {universe['refresh_hours']} hours from what was known",
        ),
        ("Decisions", f"every {held}, at an hour's close, filled at the next open"),
        ("Model", f"{len(model.symbols)} assets in all, windows of {sizes['lookback']} hours"),
        ("Objective", f"{sizes['head_options']['objective']}, net of "
         f"{sizes['head_options']['turnover_cost']:.3%} of the turnover"),
        ("Caps", f"{sizes['asset_cap']:.0%} of the equity in one asset, "
         f"{sizes['head_options']['gross_cap']:.0%} in all; the rest is cash"),
        ("Budget of each variant", decisions.facts["budget"]),
        ("Estimation of the rivals", f"trailing {rivals.estimation_hours} hours, every {held}"),
        ("Exchange fee", f"{costs.mean_fee_rate:.4%} of the traded notional"),
        ("Slippage", f"{costs.slippage_rate:.4%} of the traded notional"),
        ("Funding", study.funding),
        ("Delisting", "settled at the last close"),
        ("Annualised with", "8,760 hours, 365 days"),
    ]  # fmt: skip


def _numbers(
    study: Study, decisions: Decisions, told: Mapping[str, str], *, synthetic: bool
) -> dict[str, Any]:
    model = study.results[MODEL]
    return {
        "verdict": asdict(study.verdict),
        "synthetic": synthetic,
        "metrics": {name: metrics.as_json() for name, metrics in study.metrics.items()},
        f"sharpe_less_{EQUAL.lower().replace(' ', '_')}": {
            name: asdict(interval) for name, interval in study.ahead.items()
        },
        "sharpe_joint_less_axial": None if study.variants is None else asdict(study.variants),
        "sharpe_by_training": dict(study.seeds),
        "net_pnl_by_asset": dict(zip(model.symbols, model.net_pnl_S.tolist(), strict=True)),
        "attention": {
            "symbols": list(decisions.symbols),
            "matrix": decisions.attention_AA.tolist(),
        },
        "folds": decisions.facts["folds"],
        "fits": decisions.facts["fits"],
        "chosen": decisions.facts["chosen"],
        "assumptions": dict(told),
    }


def _json_safe(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    """Return None in place of NaN and infinity, at any depth."""
    if isinstance(value, dict):
        return {name: _json_safe(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_json_safe(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
