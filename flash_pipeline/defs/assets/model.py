"""Window tensors and the trained model. torch and mlflow load inside the assets that use them."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from flash_pipeline.defs.assets.market_data import features
from flash_pipeline.defs.choices import GpuTroubleChoice
from flash_pipeline.defs.config import config_of
from flash_pipeline.defs.lineage import column_lineage
from flash_pipeline.defs.metadata import (
    column_schema,
    no_rows,
    picture,
    readable,
    span,
    version_links,
)
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.features import FEATURE_NAMES, newest_start, read_features
from flash_pipeline.market import Month, compact_utc
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.windows import (
    INDEX_SCHEMA,
    WindowFrame,
    chronological_split,
    panel_from_features,
    read_windows,
    write_windows,
)

if TYPE_CHECKING:
    from flash_pipeline.training.state import Epoch


@config_of("trained_model")
class TrainingConfig(dg.Config):
    """How a training behaves beyond its recipe."""

    force: bool = Field(
        default=False,
        description="Train again although this recipe was trained on exactly this data already.",
    )
    warm_start: bool = Field(
        default=True, description="Start from the champion's weights where these may be used."
    )
    on_gpu_trouble: GpuTroubleChoice | None = Field(
        default=None,
        description="Without a GPU, with one whose memory others hold, or where its memory runs "
        "out: fail, train on the cpu, or skip the training and keep the challenger of before; by "
        "default what FLASH_PIPELINE_ON_GPU_TROUBLE says.",
    )


@dg.asset(deps=[features], group_name="model", kinds={"parquet", "arrow"}, pool="duckdb")
def window_tensors(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Windows of all symbols aligned by time, in blocks from which batches are cut uncopied.

    Unscaled, in Parquet below `windows/`: blocks of bars, and an index with a row for each window.
    The data version is the snapshot id that every model and report names.
    """
    settings, recipe = pipeline.settings(), pipeline.resolve()
    with open_warehouse(settings.warehouse, read_only=True) as connection:
        newest = newest_start(connection, recipe.data.symbols)
        if newest is None:
            raise NotEnoughHistory(f"no features of {', '.join(recipe.data.symbols)} are stored")
        first, last = pipeline.window_months(Month.containing(newest))
        table = read_features(
            connection, recipe.data.symbols, first.time_range.start, last.time_range.end
        )
    panel = panel_from_features(table, recipe.data.symbols, FEATURE_NAMES, recipe.interval)
    frame = write_windows(
        panel,
        settings.windows,
        lookback=recipe.data.lookback,
        horizon=recipe.data.horizon,
        stride=pipeline.stride or recipe.data.lookback,
        synthetic=bool(pipeline.store(settings).synthetic()),
    )
    size = sum(path.stat().st_size for path in settings.windows.iterdir())
    windows = len(frame.anchor_N)
    context.log.info(
        f"window_tensors: {windows:,} windows of {frame.lookback} bars, "
        f"newest {compact_utc(int(frame.made_at_N[-1]))}, {size / 2**20:.1f} MiB"
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(frame.snapshot),
        metadata={
            "dagster/row_count": windows,
            "dagster/column_schema": WINDOWS_SCHEMA,
            **column_lineage("window_tensors"),
            "windows_with_label": int(frame.known_N.sum()),
            "window_shape": f"[{frame.lookback} bars, {len(frame.symbols)} symbols, "
            f"{len(frame.features)} features] float32",
            "valid_share": float(frame.along_time(frame.valid_BKS).mean()),
            "by_symbol": _by_symbol(frame),
            "span": span(int(frame.start_time_T[0]), int(frame.anchor_N[-1])),
            "horizon_bars": str(frame.horizon),
            "bytes": size,
            "snapshot": frame.snapshot,
            "synthetic": frame.synthetic,
            "path": dg.MetadataValue.path(settings.windows),
        },
    )


WINDOWS_SCHEMA = dg.TableSchema(
    columns=[
        *column_schema(INDEX_SCHEMA).columns,
        dg.TableColumn("x", "fixed_shape_tensor", "blocks: features [bars, symbols, features]"),
        dg.TableColumn("y", "fixed_shape_tensor", "blocks: forward log return [bars, symbols]"),
        dg.TableColumn("valid", "fixed_shape_tensor", "blocks: all features are known"),
    ]
)
"""Columns of the window index, and of the blocks that it points into."""


def _by_symbol(frame: WindowFrame) -> dg.TableMetadataValue:
    """Return how much of each symbol is known, as a table."""
    valid_TS, label_TS = frame.along_time(frame.valid_BKS), frame.along_time(frame.y_BKS)
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "symbol": symbol,
                    "bars": len(valid_TS),
                    "valid": int(valid_TS[:, s].sum()),
                    "labels": int((label_TS[:, s] == label_TS[:, s]).sum()),
                }
            )
            for s, symbol in enumerate(frame.symbols)
        ]
    )


def _history(history: "Iterable[Epoch]") -> dg.TableMetadataValue:
    """Return the epochs of a training as a table."""
    return dg.MetadataValue.table([readable(asdict(epoch)) for epoch in history])


@dg.asset(deps=[window_tensors], group_name="model", kinds={"pytorch", "mlflow"}, pool="training")
def trained_model(
    context: dg.AssetExecutionContext, config: TrainingConfig, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """The transformer trained on the windows, logged to MLflow and registered as challenger.

    Starts from the champion's weights where these may be used. The same recipe on the same data is
    not trained twice: `force` in the launchpad does so, and the job `full_retrain`.
    """
    from flash_pipeline.evaluation import require_dates
    from flash_pipeline.training.figures import loss_curve
    from flash_pipeline.training.session import run_training
    from flash_pipeline.training.tracking import Registry

    settings, recipe = pipeline.settings(), pipeline.resolve()
    frame = read_windows(settings.windows)
    split = chronological_split(frame, recipe.split)
    require_dates(frame, split)
    began = time.perf_counter()
    session = run_training(
        settings,
        frame,
        split,
        recipe,
        tags={"dagster_run_id": context.run.run_id, "dagster_asset": "trained_model"},
        force=config.force,
        warm_start=config.warm_start,
        on_gpu_trouble=config.on_gpu_trouble,
    )
    if session.trouble:
        context.log.warning(f"trained_model: {session.story}")
    context.log.info(f"trained_model: version {session.model.version}, {session.story}")
    best = min(session.history, key=lambda epoch: epoch.validation_loss)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(session.model.version),
        metadata={
            "version": session.model.version,
            "story": session.story,
            "gpu_trouble": session.trouble or "none",
            "recipe": recipe.name,
            "validation_loss": best.validation_loss,
            "train_loss": best.train_loss,
            "best_epoch": str(best.number),
            "epochs": str(len(session.history)),
            "loss": picture(loss_curve(session.history, title="Loss"), "loss"),
            **version_links(Registry(settings), session.model),
            "seconds": time.perf_counter() - began,
            "history": _history(session.history),
            "snapshot": frame.snapshot,
            "attention": session.model.tags.get("attention", ""),
            "device": session.model.tags.get("device", ""),
            "parameters": session.model.tags.get("parameters", ""),
        },
    )


@dg.asset(deps=[window_tensors], group_name="model", kinds={"numpy", "mlflow"}, pool="training")
def baselines(
    context: dg.AssetExecutionContext, pipeline: PipelineResource
) -> dg.MaterializeResult:
    """Simple models fitted on the ranges of the transformer, each a registered model of its own."""
    from flash_pipeline.evaluation import require_dates
    from flash_pipeline.training.baseline_session import fit_baselines

    settings, recipe = pipeline.settings(), pipeline.resolve()
    frame = read_windows(settings.windows)
    split = chronological_split(frame, recipe.split)
    require_dates(frame, split)
    tags = {"dagster_run_id": context.run.run_id, "dagster_asset": "baselines"}
    session = fit_baselines(settings, frame, split, recipe, tags=tags)
    for name, reason in session.left_out.items():
        context.log.warning(f"baselines: without {name}: {reason}")
    rows: list[dict[str, str | float]] = [
        {
            "baseline": name,
            "model": each.model.name,
            "version": each.model.version,
            "r2_against_zero": each.r2_against_zero,
            "seconds": each.seconds,
        }
        for name, each in session.fitted.items()
    ]
    return dg.MaterializeResult(
        metadata={
            "baselines": dg.MetadataValue.table([readable(row) for row in rows])
            if rows
            else no_rows("baseline"),
            "fitted": f"{len(rows)} of {len(rows) + len(session.left_out)}",
            "seconds": sum(each.seconds for each in session.fitted.values()),
            "left_out": dg.MetadataValue.json(dict(session.left_out)),
            "snapshot": frame.snapshot,
            **{
                f"{name}/r2_against_zero": each.r2_against_zero
                for name, each in session.fitted.items()
                if each.r2_against_zero == each.r2_against_zero
            },
        }
    )
