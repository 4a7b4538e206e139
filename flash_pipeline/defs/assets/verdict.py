"""The backtest report, the champion and the forecasts."""

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.market_data import klines
from flash_pipeline.defs.assets.model import trained_model, window_tensors
from flash_pipeline.defs.metadata import column_schema, instant, picture, span
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


class PromotionConfig(dg.Config):
    """Whether a person overrides the comparison."""

    force: bool = Field(
        default=False, description="Promote the challenger whatever the figures say; recorded."
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


@dg.asset(deps=[backtest_report], group_name="verdict", kinds={"mlflow"})
def champion(
    context: dg.AssetExecutionContext, config: PromotionConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The version that makes the forecasts; replaced only by a better one on the same dates."""
    from flash_pipeline.evaluation import Contest, decide_promotion
    from flash_pipeline.training.tracking import CHAMPION, RIVAL_TAG, Registry

    settings = pipeline.settings()
    registry = Registry(settings)
    contest, holder = Contest.load(settings.contest), registry.at(CHAMPION)
    decision = decide_promotion(
        contest, holder.version if holder is not None else None, force=config.force
    )
    if decision.promoted:
        registry.point(CHAMPION, contest.challenger.version)
        if holder is not None:
            registry.tag(contest.challenger.version, {RIVAL_TAG: holder.version})
    if holder is None or holder.version != contest.challenger.version:
        registry.tag(contest.challenger.version, {"promotion": decision.reason})
    version = registry.require(CHAMPION).version
    context.log.info(f"champion: version {version}; {decision.reason}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            "version": version,
            "promoted": decision.promoted,
            "forced": decision.forced,
            "reason": decision.reason,
            "challenger_loss": contest.challenger.loss,
            "champion_loss": contest.champion.loss if contest.champion is not None else "none",
        },
    )


@dg.asset(
    deps=[champion, window_tensors],
    group_name="verdict",
    kinds={"duckdb", "pytorch"},
    pool="duckdb",
)
def forecasts(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The champion's forecast from the newest closed candle; earlier ones are scored."""
    from flash_pipeline.evaluation import FORECAST_SCHEMA, make_forecast, record_forecast
    from flash_pipeline.evaluation.figures import draw_forecast
    from flash_pipeline.storage.warehouse import open_warehouse
    from flash_pipeline.training.tracking import CHAMPION, Registry

    settings = pipeline.settings()
    frame, holder = read_windows(settings.windows), Registry(settings).require(CHAMPION)
    forecast = make_forecast(frame, holder.version, holder.bundle)
    with open_warehouse(settings.warehouse) as connection:
        record = record_forecast(connection, forecast, frame.interval)
    made_at = int(frame.made_at_N[-1])
    context.log.info(f"forecasts: {record.rows} made, {record.scored} earlier ones scored")
    rows = [dg.TableRecord(row) for row in forecast.to_pylist()]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": record.rows,
            "dagster/column_schema": column_schema(FORECAST_SCHEMA),
            "made_at": instant(made_at),
            "scored": record.scored,
            "model_version": holder.version,
            "forecast": dg.MetadataValue.table(rows),
            "chart": picture(draw_forecast(forecast, pipeline.store(settings)), "forecast"),
            "path": dg.MetadataValue.path(settings.warehouse),
        }
    )
