"""The walk-forward: a plan, its folds apart from one another, and all of them joined and measured.

One backfill of the job `evaluate`, or of the group `evaluation`, runs all of it. A fold that
failed is run again alone: the rest stays, and the plan keeps the windows that the folds began on.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.model import window_tensors
from flash_pipeline.defs.choices import GrowthChoice
from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import column_schema, link, no_rows, picture
from flash_pipeline.defs.partitions import PARTITION_TAG
from flash_pipeline.defs.resources import PipelineResource

if TYPE_CHECKING:
    from flash_pipeline.evaluation.walk_session import WalkSession

GROUP = "evaluation"
"""Group of these assets: no part of the hourly run."""

FOLDS = 5
"""Partitions, and folds unless fewer are asked for."""

FOLD_PARTITIONS = dg.StaticPartitionsDefinition([str(n + 1) for n in range(FOLDS)])
"""One partition per fold."""

PLOTTED = ("rank_ic", "cross_sectional_ic", "icir", "hit_rate", "r2_against_zero", "coverage")
"""Measures that the UI plots over time, of each model."""


@config_of("walk_forward_plan")
class PlanConfig(dg.Config):
    """How the history is walked through, and by which models."""

    folds: int = Field(
        default=FOLDS,
        ge=1,
        le=FOLDS,
        description=f"Test ranges of equal length, 1 to {FOLDS}; partitions beyond are refused.",
    )
    history: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of the labelled windows before the first test range.",
    )
    growth: GrowthChoice = Field(
        default=GrowthChoice.expanding,
        description="expanding: a fold learns from all of its past; rolling: from as much as the "
        "first fold has.",
    )
    validation: float = Field(
        default=0.15,
        gt=0,
        lt=1,
        description="Share of a fold's past, its end, that chooses the checkpoint.",
    )
    embargo: int = Field(
        default=0, ge=0, description="Bars left out after the purge, before each next range."
    )
    models: list[str] | None = Field(
        default=None,
        description="Some of zero, last_value, seasonal, ridge, boosting, dlinear, transformer, "
        "ensemble; by default all that can run here but the ensemble.",
    )
    fresh: bool = Field(
        default=False,
        description="Begin on the newest windows although the last walk-forward is not finished.",
    )


@config_of("walk_forward_folds")
class FoldConfig(dg.Config):
    """Whether a fold is run again."""

    force: bool = Field(default=False, description="Run the fold although it is stored.")


@dg.asset(deps=[window_tensors], group_name=GROUP, kinds={"parquet"})
def walk_forward_plan(
    context: dg.AssetExecutionContext, config: PlanConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The windows, folds and models of a walk-forward, kept until all of its folds are there."""
    from flash_pipeline.evaluation.walk_plan import default_models, make_plan
    from flash_pipeline.windows import WalkForwardConfig, walk_forward

    settings = pipeline.settings()
    models, left_out = default_models() if config.models is None else (config.models, {})
    shape = config.model_dump(mode="json", exclude={"models", "fresh"})
    plan, story = make_plan(
        settings.walk_forward,
        settings.windows,
        pipeline.resolve(),
        WalkForwardConfig(**shape),
        models,
        fresh=config.fresh,
    )
    frame = plan.windows()
    ranges = [fold.to_dict(frame) for fold in walk_forward(frame, plan.config)]
    for name, reason in left_out.items():
        context.log.warning(f"walk_forward_plan: without {name}: {reason}")
    context.log.info(f"walk_forward_plan: {plan.config.folds} folds, {story}")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(plan.key),
        metadata={
            "story": story,
            "snapshot": plan.snapshot,
            "recipe": plan.recipe.name,
            "models": dg.MetadataValue.json(list(plan.models)),
            "fold_count": str(len(ranges)),
            "windows": len(frame.anchor_N),
            "ranges": _table([_flat(each) for each in ranges]),
            "left_out": dg.MetadataValue.json(left_out),
            "folds": dg.MetadataValue.json(ranges),
            "config": dg.MetadataValue.json(shape),
            "synthetic": frame.synthetic,
            "path": dg.MetadataValue.path(plan.folder),
        },
    )


@dg.asset(
    deps=[walk_forward_plan],
    partitions_def=FOLD_PARTITIONS,
    group_name=GROUP,
    kinds={"pytorch", "parquet"},
    pool="training",
)
def walk_forward_folds(
    context: dg.AssetExecutionContext, config: FoldConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Every model trained on a fold's past, and what it predicts of the fold's test range."""
    from flash_pipeline.evaluation.walk_session import run_planned_fold

    number = int(context.partition_key)
    tags = {"dagster_run_id": context.run.run_id, "dagster_asset": "walk_forward_folds"}
    session = run_planned_fold(pipeline.settings(), number, tags=tags, force=config.force)
    context.log.info(f"walk_forward_folds: fold {number}, {session.story}")
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": session.table.num_rows,
            "dagster/column_schema": column_schema(session.table.schema.remove_metadata()),
            **column_lineage("walk_forward_folds"),
            "measures": _measures(session.measures),
            "story": session.story,
            "dates": dg.MetadataValue.json(dict(session.dates)),
            "snapshot": session.dates["snapshot"],
            "seconds": sum(session.seconds.values()),
            "seconds_by_model": dg.MetadataValue.json(dict(session.seconds)),
            "mlflow_run": link(session.url),
            **{name: value for name, value in session.measures.items() if "rank_ic" in name},
        }
    )


@dg.asset(
    deps=[walk_forward_folds], group_name=GROUP, kinds={"parquet", "numpy"}, output_required=False
)
def walk_forward(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> Iterator[dg.MaterializeResult]:
    """Out-of-sample predictions of every model over all folds, and what they are worth."""
    from flash_pipeline.evaluation.walk_session import finish_walk, missing_folds

    settings = pipeline.settings()
    missing = missing_folds(settings)
    if missing and PARTITION_TAG in context.run.tags:  # the run of the last fold joins them all
        context.log.info(f"walk_forward: folds {', '.join(map(str, missing))} are still to come")
        return
    session = finish_walk(settings)
    context.log.info(f"walk_forward: {session.table.num_rows:,} predictions joined")
    yield dg.MaterializeResult(metadata=_metadata(session))


@dg.asset_check(asset=walk_forward)
def predictions_are_not_flat(pipeline: PipelineResource) -> dg.AssetCheckResult:
    """No model says nearly the same at all dates; of a baseline that is a warning."""
    from flash_pipeline.evaluation.scores import flat_predictions
    from flash_pipeline.evaluation.walk_plan import load_plan
    from flash_pipeline.evaluation.walkforward import read_predictions
    from flash_pipeline.training.baselines import BASELINES

    table = read_predictions(load_plan(pipeline.settings().walk_forward).joined)
    flat = {name: symbols for name, symbols in flat_predictions(table).items() if name != "zero"}
    only_baselines = set(flat) <= set(BASELINES)
    return dg.AssetCheckResult(
        passed=not flat,
        severity=dg.AssetCheckSeverity.WARN if only_baselines else dg.AssetCheckSeverity.ERROR,
        description="; ".join(f"{name}: {', '.join(flat[name])}" for name in flat) or None,
        metadata={"problems": len(flat)},
    )


def _flat(fold: dict[str, Any]) -> dict[str, str]:
    """Return a fold's number and ranges as one row of a table."""
    return {
        name: f"{value['from']} to {value['to']}" if isinstance(value, dict) else str(value)
        for name, value in fold.items()
        if not isinstance(value, dict) or {"from", "to"} <= set(value)
    }


def _measures(values: Mapping[str, float]) -> dg.TableMetadataValue:
    """Return one row per model and measure; `values` has them as `<model>.<measure>`."""
    rows = [
        dg.TableRecord(
            {
                "model": name.partition(".")[0],
                "measure": name.partition(".")[2],
                "value": round(value, 6),
            }
        )
        for name, value in values.items()
    ]
    return dg.MetadataValue.table(rows) if rows else no_rows("model", "measure", "value")


def _metadata(session: "WalkSession") -> dict[str, Any]:
    from flash_pipeline.evaluation.walk_figures import model_table, scope_table
    from flash_pipeline.evaluation.walkforward import PREDICTION_SCHEMA, describe_predictions

    folds = describe_predictions(session.table).folds
    plotted = {
        f"{row['model']}/{row['measure']}": row["value"]
        for row in session.scores.to_pylist()
        if row["scope"] == "all" and row["measure"] in PLOTTED and row["value"] is not None
    }
    return {
        "dagster/row_count": session.table.num_rows,
        "dagster/column_schema": column_schema(PREDICTION_SCHEMA),
        **column_lineage("walk_forward"),
        "models": _table(model_table(session.scores)),
        "rank_ic_by_symbol_and_month": _table(scope_table(session.scores)),
        "scores": picture(session.png, "rank IC"),
        "snapshot": session.plan.snapshot,
        "from": folds[0]["test"]["from"],
        "to": folds[-1]["test"]["to"],
        "folds": dg.MetadataValue.json([dict(fold) for fold in folds]),
        "synthetic": session.frame.synthetic,
        "mlflow_run": link(session.url),
        "path": dg.MetadataValue.path(session.plan.joined),
        **plotted,
    }


def _table(rows: list[dict[str, str]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])
