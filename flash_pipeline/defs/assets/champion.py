"""The champion: the version that makes the forecasts."""

import time
from dataclasses import asdict

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.backtest import backtest_report
from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import column_schema, readable, table, version_links
from flash_pipeline.defs.resources import PipelineResource


@config_of("champion")
class PromotionConfig(dg.Config):
    """What it takes to be promoted, and whether a person overrides it."""

    force: bool = Field(
        default=False, description="Promote the challenger whatever the figures say; recorded."
    )
    who: str = Field(default="", description="Who asks, for the log; by default the run's id.")
    level: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Probability of promoting any challenger that is no better, over all contests "
        "that share a date, 0 to 0.5.",
    )
    least_new_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the dates that no earlier contest may have used, 0 to 1.",
    )


@dg.asset(deps=[backtest_report], group_name="verdict", kinds={"mlflow", "duckdb"}, pool="duckdb")
def champion(
    context: dg.AssetExecutionContext, config: PromotionConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The version that makes the forecasts; replaced only by a better one on the same dates.

    The alias `champion` of the registered model. Each decision is a row of the table `promotions`,
    with its reason; `force` in the launchpad overrides the comparison and is recorded.
    """
    from flash_pipeline.evaluation import PROMOTIONS_SCHEMA, GateRules, settle_contest
    from flash_pipeline.training.tracking import Registry

    settings = pipeline.settings()
    settled = settle_contest(
        settings,
        who=config.who or f"run {context.run.run_id}",
        decided_at=int(time.time() * 1000),
        force=config.force,
        rules=GateRules(level=config.level, least_new_share=config.least_new_share),
    )
    decision, contest = settled.decision, settled.contest
    figures = {
        f"against_champion/{name}": getattr(each, name)
        for each in decision.comparisons[:1]
        for name in ("difference", "lower", "p_value")
    }
    registry = Registry(settings)
    context.log.info(f"champion: version {settled.champion}; {decision.reason}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(settled.champion),
        metadata={
            "version": settled.champion,
            "promoted": decision.promoted,
            "forced": decision.forced,
            "reason": decision.reason,
            "level": decision.level,
            **figures,
            "comparisons": dg.MetadataValue.table(
                [readable(asdict(each)) for each in decision.comparisons], _COMPARISONS
            ),
            "promotions": table(settled.promotions.drop_columns("figures")),
            "dagster/column_schema": column_schema(PROMOTIONS_SCHEMA),
            **column_lineage("champion"),
            **version_links(registry, registry.version(settled.champion)),
            "dagster/row_count": settled.promotions.num_rows,
            "dagster/table_name": "warehouse.main.promotions",
            "challenger_loss": contest.challenger.loss,
            "champion_loss": contest.champion.loss if contest.champion is not None else "none",
        },
    )


_COMPARISONS = dg.TableSchema(
    columns=[
        dg.TableColumn("rival", "string", "champion or best baseline"),
        dg.TableColumn("dates", "int"),
        dg.TableColumn("difference", "double", "log growth per bar, challenger less rival"),
        dg.TableColumn("lower", "double", "its one-sided lower bound at the level"),
        dg.TableColumn("p_value", "double"),
        dg.TableColumn("loss_difference", "double", "below 0 is better"),
        dg.TableColumn("loss_p_value", "double"),
        dg.TableColumn("favoured", "bool"),
        dg.TableColumn("liquidated", "bool", "whether the challenger's account was"),
    ]
)
