"""The challenger's backtest report."""

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.market_data import klines
from flash_pipeline.defs.assets.model import trained_model, window_tensors
from flash_pipeline.defs.metadata import picture, span
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.windows import read_windows


class CostsConfig(dg.Config):
    """What trading costs in the backtest."""

    fee_rate: float = Field(
        default=0.00055,
        description="Taker fee as a fraction of the notional; Bybit linear 0.055 %.",
    )
    slippage_rate: float = Field(
        default=0.0002, description="Slippage as a fraction of the notional, 0 to 0.05."
    )


@dg.asset(
    deps=[trained_model, window_tensors, klines],
    group_name="verdict",
    kinds={"numpy", "html"},
    pool="training",
)
def backtest_report(
    context: dg.AssetExecutionContext, config: CostsConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The challenger's forecasts traded on dates it has not seen, after costs, and the report."""
    from flash_pipeline.backtest import Costs
    from flash_pipeline.evaluation import evaluate_challenger
    from flash_pipeline.training.tracking import CHALLENGER, Registry

    settings = pipeline.settings()
    registry = Registry(settings)
    challenger = registry.require(CHALLENGER)
    rival = registry.rival_of(challenger)
    contest, report = evaluate_challenger(
        read_windows(settings.windows),
        pipeline.store(settings),
        Costs(config.fee_rate, config.slippage_rate),
        settings.reports,
        (challenger.version, challenger.bundle),
        (rival.version, rival.bundle) if rival is not None else None,
    )
    contest.save(settings.contest)
    figures = {k: v for k, v in report.strategy.as_json().items() if v is not None}
    registry.add_report(challenger, report.folder, figures, contest.made_at)
    context.log.info(f"backtest_report: {report.verdict.headline}")
    return dg.MaterializeResult(
        metadata={
            "verdict": report.verdict.headline,
            "equity": picture(report.png, "equity and drawdown"),
            "report": dg.MetadataValue.url((report.folder / "report.html").as_uri()),
            "dates": contest.anchors,
            "span": span(contest.first_made_at, contest.last_made_at),
            "model_version": challenger.version,
            **{f"strategy/{name}": value for name, value in figures.items()},
            **{f"quality/{name}": v for name, v in contest.challenger.quality.items() if v == v},
        }
    )
