"""The report of a backtest: a page, its picture, its numbers and the predictions behind them.

    <folder>/report.html          self-contained: inline style, picture as a data URI
    <folder>/report.png           the four-panel picture
    <folder>/metrics.json         every number of the page
    <folder>/predictions.parquet  the caller's table

The files are a function of the arguments alone: no clock, no host, no path goes into them.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from flash_pipeline.backtest.costs import Costs
from flash_pipeline.backtest.figures import four_panel
from flash_pipeline.backtest.formatting import (
    METRIC_ROWS,
    signed_percent,
    written,
    written_quality,
)
from flash_pipeline.backtest.metrics import Metrics, summarise
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.verdict import Verdict, judge
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.market import Interval, iso_utc
from flash_pipeline.storage.files import replacing_folder, write_parquet

Quality = Mapping[str, float | str | None]
"""Measures of the predictions themselves, by a name for people; None where not defined."""


@dataclass(frozen=True)
class ReportContext:
    """What the numbers of a report rest on.

    Raises
    ------
    InvalidConfig
        If the horizon is below 1.
    """

    interval: Interval
    """Length of a bar; gives the bars per year."""
    costs: Costs
    """Costs of strategy and benchmark alike."""
    horizon: int
    """Bars that a forecast looks ahead and its cohort is held."""
    model_version: str
    """Version of the registered model, or another name of what made the predictions."""
    synthetic: bool
    """Whether the prices come from the market simulator."""
    funding_charged: bool = False
    """Whether funding rates were given to `simulate`."""

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise InvalidConfig(f"horizon is {self.horizon}: expected at least 1 bar")


@dataclass(frozen=True)
class Report:
    """A written report, for whoever shows or links it."""

    folder: Path
    """Where the four files lie."""
    strategy: Metrics
    """Measures of the strategy."""
    buy_and_hold: Metrics
    """Measures of the benchmark."""
    verdict: Verdict
    """The judgement at the top of the page."""
    png: bytes
    """The four-panel picture, as in `report.png`."""


def write_report(
    folder: Path,
    *,
    result: BacktestResult,
    benchmark: BacktestResult,
    context: ReportContext,
    predictions: pa.Table,
    prediction_quality: Quality,
) -> Report:
    """Measure a backtest, judge it and write its folder, whole or not at all.

    Parameters
    ----------
    folder : Path
        The report's own folder; one that is there is replaced.
    result, benchmark : BacktestResult
        The strategy, and buying and holding, over the same bars and symbols.
    context : ReportContext
        Assumptions shown on the page.
    predictions : pa.Table
        What the strategy traded on, kept as it is.
    prediction_quality : mapping of str to float, str or None
        Rows such as rank IC or the error beside that of the zero forecast, in their order.

    Returns
    -------
    Report
        The measures, the verdict and the picture.

    Raises
    ------
    InvalidInput
        If strategy and benchmark differ in bars or symbols, or their bars are not of the
        context's interval.
    """
    _check_same_market(result, benchmark, context.interval)
    bars_per_year = context.interval.bars_per_year
    strategy, held = summarise(result, bars_per_year), summarise(benchmark, bars_per_year)
    verdict = judge(strategy, held, synthetic=context.synthetic)
    png = four_panel(
        result, benchmark, strategy, benchmark_metrics=held, synthetic=context.synthetic
    )
    report = Report(folder, strategy, held, verdict, png)
    with replacing_folder(folder) as temporary:
        page = _render(report, result, context, prediction_quality)
        (temporary / "report.html").write_text(page, encoding="utf-8")
        (temporary / "report.png").write_bytes(png)
        numbers = json.dumps(
            _numbers(report, result, context, prediction_quality), indent=2, allow_nan=False
        )
        (temporary / "metrics.json").write_text(numbers + "\n", encoding="utf-8")
        write_parquet(predictions, temporary / "predictions.parquet")
    return report


def _check_same_market(
    result: BacktestResult, benchmark: BacktestResult, interval: Interval
) -> None:
    if result.symbols != benchmark.symbols:
        raise InvalidInput(
            f"the benchmark holds {benchmark.symbols}: expected the strategy's {result.symbols}"
        )
    if result.start_time_T.tolist() != benchmark.start_time_T.tolist():
        raise InvalidInput("the benchmark covers other bars than the strategy")
    if result.bar_ms != interval.milliseconds:
        raise InvalidInput(
            f"bars are {result.bar_ms} ms long: expected {interval.milliseconds} ms, "
            f"the interval {interval.value!r}"
        )


def _render(
    report: Report, result: BacktestResult, context: ReportContext, quality: Quality
) -> str:
    environment = Environment(
        loader=PackageLoader("flash_pipeline.backtest", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        symbols=", ".join(result.symbols),
        period=_period(result),
        synthetic=context.synthetic,
        model_version=context.model_version,
        verdict=report.verdict,
        picture=base64.b64encode(report.png).decode("ascii"),
        metrics=[
            (r.label, r.explanation, written(r, report.strategy), written(r, report.buy_and_hold))
            for r in METRIC_ROWS
        ],
        pnl=[(name, signed_percent(value)) for name, value in _net_pnl(result).items()],
        quality=[(name, written_quality(value)) for name, value in quality.items()],
        assumptions=_assumptions(result, context),
    )


def _assumptions(result: BacktestResult, context: ReportContext) -> list[tuple[str, str]]:
    costs = context.costs
    cohorts = (
        f"held for {context.horizon} bars, each with 1/{context.horizon} of the capital"
        if context.horizon > 1
        else "held for one bar"
    )
    funding = "charged at settlement" if context.funding_charged else "not included"
    return [
        ("Period", _period(result)),
        ("Bars", f"{len(result.returns_T):,} of {context.interval.minutes:,} minutes"),
        ("Execution", "decided at a bar's close, filled at the next bar's open"),
        ("Signals", f"forecasts {context.horizon} bars ahead, {cohorts}"),
        ("Exchange fee", f"{costs.fee_rate:.4%} of the traded notional"),
        ("Slippage", f"{costs.slippage_rate:.4%} of the traded notional"),
        ("Funding", funding),
        ("Marking", "every held position at every close; open positions are not sold at the end"),
        ("Annualised with", f"{context.interval.bars_per_year:,.0f} bars per year"),
        ("Benchmark", "equal weights bought at the first open, same costs, never rebalanced"),
        ("Model version", context.model_version),
        ("Market", "synthetic, from the simulator" if context.synthetic else "recorded candles"),
    ]


def _numbers(
    report: Report, result: BacktestResult, context: ReportContext, quality: Quality
) -> dict[str, Any]:
    return {
        "verdict": asdict(report.verdict),
        "strategy": report.strategy.as_json(),
        "buy_and_hold": report.buy_and_hold.as_json(),
        "net_pnl_by_symbol": _net_pnl(result),
        "prediction_quality": {name: _json_safe(value) for name, value in quality.items()},
        "assumptions": {
            "start_time": iso_utc(int(result.start_time_T[0])),
            "end_time": iso_utc(result.end_time),
            "interval": context.interval.value,
            "bars_per_year": context.interval.bars_per_year,
            "horizon_bars": context.horizon,
            "fee_rate": context.costs.fee_rate,
            "slippage_rate": context.costs.slippage_rate,
            "funding_charged": context.funding_charged,
            "model_version": context.model_version,
            "synthetic": context.synthetic,
        },
    }


def _net_pnl(result: BacktestResult) -> dict[str, float]:
    return dict(zip(result.symbols, result.net_pnl_S.tolist(), strict=True))


def _json_safe(value: float | str | None) -> float | str | None:
    if isinstance(value, str) or value is None:
        return value
    return float(value) if math.isfinite(value) else None


def _period(result: BacktestResult) -> str:
    return f"{iso_utc(int(result.start_time_T[0]))} to {iso_utc(result.end_time)}"
