"""The champion: the version that makes the forecasts."""

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.backtest import backtest_report
from flash_pipeline.defs.resources import PipelineResource


class PromotionConfig(dg.Config):
    """Whether a person overrides the comparison."""

    force: bool = Field(
        default=False, description="Promote the challenger whatever the figures say; recorded."
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
