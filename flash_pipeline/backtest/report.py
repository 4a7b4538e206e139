"""The report of a backtest: a page, its picture, its numbers and the predictions behind them.

    <folder>/report.html          self-contained and interactive
    <folder>/report.png           the four-panel picture
    <folder>/metrics.json         every number of the page
    <folder>/predictions.parquet  the caller's table

The files are a function of the arguments alone: no clock, no host, no path goes into them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flash_pipeline.backtest.charts import BUY_AND_HOLD
from flash_pipeline.backtest.context import FoldRow, ReportContext, assumption_figures, assumptions
from flash_pipeline.backtest.figures import four_panel
from flash_pipeline.backtest.metrics import Metrics, summarise
from flash_pipeline.backtest.page import Content, Quality, render
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.backtest.sharpe import deflated_sharpe, moments
from flash_pipeline.backtest.verdict import Rivals, Verdict, ahead_of, judge
from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import Interval
from flash_pipeline.storage.files import replacing_folder, write_parquet


@dataclass(frozen=True)
class Report:
    """A written report, for whoever shows or links it."""

    folder: Path
    """Where the four files lie."""
    strategy: Metrics
    """Measures of the strategy."""
    buy_and_hold: Metrics
    """Measures of the benchmark."""
    baselines: Mapping[str, Metrics]
    """Measures of the simpler models, by name."""
    verdict: Verdict
    """The judgement at the top of the page."""
    png: bytes
    """The four-panel picture, as in `report.png`."""
    deflated_sharpe: float | None
    """Probability of a Sharpe ratio above zero after all trials; None if they are not known."""
    assumptions: tuple[tuple[str, str], ...]
    """What the numbers rest on, by a name for people."""

    def figures(self) -> dict[str, float | int | None]:
        """Return the measures of the strategy and its deflated Sharpe ratio; None for NaN."""
        deflated = self.deflated_sharpe
        known = deflated is not None and math.isfinite(deflated)
        return {
            **self.strategy.as_json(),
            "deflated_sharpe_probability": deflated if known else None,
        }


def write_report(
    folder: Path,
    *,
    result: BacktestResult,
    benchmark: BacktestResult,
    context: ReportContext,
    predictions: pa.Table,
    prediction_quality: Quality,
    baselines: Mapping[str, BacktestResult] | None = None,
    folds: Sequence[FoldRow] = (),
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
        What the strategy traded on, kept as it is. With the columns `made_at`, `symbol`,
        `prediction` and `label` the page has their rolling rank IC.
    prediction_quality : mapping of str to float, str or None
        Rows such as rank IC or the error beside that of the zero forecast, in their order.
    baselines : mapping of str to BacktestResult or None
        Simpler models by name, over the same bars and symbols, at the same costs.
    folds : sequence of FoldRow
        Of a walk-forward; the page has their table if there are any.

    Returns
    -------
    Report
        The measures, the verdict and the picture.

    Raises
    ------
    InvalidInput
        If the results differ in bars or symbols, or their bars are not of the context's interval.
    """
    baselines = baselines or {}
    for name, other in {"benchmark": benchmark, **baselines}.items():
        _check_same_market(name, result, other, context.interval)
    per_year = context.interval.bars_per_year
    strategy, held = summarise(result, per_year), summarise(benchmark, per_year)
    simpler = {name: summarise(other, per_year) for name, other in baselines.items()}
    trials = context.trials
    deflated = None if trials is None else deflated_sharpe(moments(result.returns_T), trials)
    rivals = Rivals(ahead_of(result, benchmark), simpler, deflated)
    verdict = judge(strategy, held, synthetic=context.synthetic, rivals=rivals)
    png = four_panel(
        result,
        benchmark,
        strategy,
        benchmark_metrics=held,
        baselines=baselines,
        synthetic=context.synthetic,
    )
    told = tuple(assumptions(result, context))
    report = Report(folder, strategy, held, simpler, verdict, png, deflated, told)
    page = render(
        Content(
            result=result,
            benchmark=benchmark,
            baselines=baselines,
            metrics={"Strategy": strategy, BUY_AND_HOLD: held, **simpler},
            verdict=verdict,
            deflated_sharpe=deflated,
            context=context,
            predictions=predictions,
            quality=prediction_quality,
            folds=folds,
        )
    )
    numbers = _numbers(report, result, context, prediction_quality, folds)
    with replacing_folder(folder) as temporary:
        (temporary / "report.html").write_text(page, encoding="utf-8")
        (temporary / "report.png").write_bytes(png)
        text = json.dumps(_json_safe(numbers), indent=2, allow_nan=False)
        (temporary / "metrics.json").write_text(text + "\n", encoding="utf-8")
        write_parquet(predictions, temporary / "predictions.parquet")
    return report


def _check_same_market(
    name: str, result: BacktestResult, other: BacktestResult, interval: Interval
) -> None:
    if result.symbols != other.symbols:
        raise InvalidInput(
            f"the {name} holds {other.symbols}: expected the strategy's {result.symbols}"
        )
    if result.start_time_T.tolist() != other.start_time_T.tolist():
        raise InvalidInput(f"the {name} covers other bars than the strategy")
    if result.bar_ms != interval.milliseconds:
        raise InvalidInput(
            f"bars are {result.bar_ms} ms long: expected {interval.milliseconds} ms, "
            f"the interval {interval.value!r}"
        )


def _numbers(
    report: Report,
    result: BacktestResult,
    context: ReportContext,
    quality: Quality,
    folds: Sequence[FoldRow],
) -> dict[str, Any]:
    return {
        "verdict": asdict(report.verdict),
        "strategy": report.strategy.as_json(),
        "buy_and_hold": report.buy_and_hold.as_json(),
        "baselines": {name: metrics.as_json() for name, metrics in report.baselines.items()},
        "trials": None if context.trials is None else asdict(context.trials),
        "deflated_sharpe_probability": report.deflated_sharpe,
        "net_pnl_by_symbol": dict(zip(result.symbols, result.net_pnl_S.tolist(), strict=True)),
        "prediction_quality": dict(quality),
        "folds": [asdict(row) for row in folds],
        "assumptions": assumption_figures(result, context),
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
