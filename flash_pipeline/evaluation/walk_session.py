"""The folds of a planned walk-forward: run, stored, tracked, and repeated only where need be."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from flash_pipeline.evaluation.scores import ALL, measure, outcomes
from flash_pipeline.evaluation.walk_figures import draw_scores
from flash_pipeline.evaluation.walk_plan import PLAN_FILE, WalkPlan, load_plan
from flash_pipeline.evaluation.walkforward import read_predictions, run_fold, write_predictions
from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking.walks import TrackedWalk, track_walk
from flash_pipeline.windows import WindowFrame

PICTURE_FILE = "scores.png"
"""Picture of the measures, beside the joined predictions."""


@dataclass(frozen=True)
class FoldSession:
    """What became of a request to run a fold."""

    table: pa.Table
    """Its predictions."""
    dates: Mapping[str, Any]
    """Its number, snapshot and ranges: see `Fold.to_dict`."""
    measures: Mapping[str, float]
    """`<model>.<measure>` over the fold's test range."""
    seconds: Mapping[str, float]
    """Time to fit and predict, of each model; empty where nothing was run."""
    story: str
    """In words: run, or stored before."""
    url: str
    """Page of the walk-forward's MLflow run."""


@dataclass(frozen=True)
class WalkSession:
    """A finished walk-forward."""

    plan: WalkPlan
    """What it was."""
    frame: WindowFrame
    """Its windows."""
    table: pa.Table
    """Predictions of all folds."""
    scores: pa.Table
    """Their measures."""
    png: bytes
    """Their picture."""
    url: str
    """Page of the MLflow run."""


def run_planned_fold(
    settings: Settings, number: int, *, tags: Mapping[str, str], force: bool = False
) -> FoldSession:
    """Run a fold of the stored plan and store its predictions.

    Parameters
    ----------
    number : int
        From 1.
    tags : mapping
        Further tags of the MLflow run.
    force : bool
        Run it although it is stored.

    Raises
    ------
    NotEnoughHistory, SchemaMismatch
        If there is no plan, or none that can be used.
    InvalidConfig
        If the plan has no such fold.
    TrackingUnreachable
        If MLflow does not answer; nothing is run then.
    ModelError
        As for `run_fold`; the MLflow run is marked failed, nothing is stored.
    """
    plan = load_plan(settings.walk_forward)
    frame = plan.windows()
    fold = plan.fold(frame, number)
    walk, path, dates = _tracked(settings, plan), plan.fold_path(number), fold.to_dict(frame)
    if not force and plan.holds(frame, fold):
        table = read_predictions(path)
        story = "run before on exactly these windows"
        return FoldSession(table, dates, _values(table, frame.horizon), {}, story, walk.url)
    with walk.fold(number, dates, tags) as log:
        ran = run_fold(frame, fold, plan.recipe, plan.models)
        values = _values(ran.table, frame.horizon)
        log({**values, **{f"{name}.seconds": spent for name, spent in ran.seconds.items()}})
        write_predictions(ran.table, path)
    return FoldSession(ran.table, dates, values, ran.seconds, "run", walk.url)


def missing_folds(settings: Settings) -> list[int]:
    """Return the numbers of the stored plan's folds that are not stored yet.

    Raises
    ------
    NotEnoughHistory, SchemaMismatch
        If there is no plan, or none that can be used.
    """
    plan = load_plan(settings.walk_forward)
    return plan.missing(plan.windows())


def finish_walk(settings: Settings) -> WalkSession:
    """Join the folds of the stored plan, measure them, and log that.

    Raises
    ------
    NotEnoughHistory
        If there is no plan, or folds are missing; what was joined before stays.
    SchemaMismatch
        If there is no plan that can be used.
    TrackingUnreachable
        If MLflow does not answer.
    """
    plan = load_plan(settings.walk_forward)
    frame = plan.windows()
    table, scores = plan.finish(frame)
    png = draw_scores(scores, synthetic=frame.synthetic)
    picture = plan.folder / PICTURE_FILE
    picture.write_bytes(png)
    metrics = {
        f"{row['model']}.{row['measure']}{end}": row[column]
        for row in scores.to_pylist()
        if row["scope"] == ALL
        for column, end in (("value", ""), ("low", ".low"), ("high", ".high"))
        if row[column] is not None
    }
    walk = _tracked(settings, plan)
    walk.finish(metrics, [plan.folder / PLAN_FILE, plan.scores, picture])
    return WalkSession(plan, frame, table, scores, png, walk.url)


def _tracked(settings: Settings, plan: WalkPlan) -> TrackedWalk:
    facts = {"walk_forward": {**asdict(plan.config), "models": list(plan.models)}}
    return track_walk(settings, plan.key, plan.recipe, plan.snapshot, facts=facts)


def _values(table: pa.Table, horizon: int) -> dict[str, float]:
    """Return the measures of each model over a fold that are defined."""
    return {
        f"{outcome.model}.{name}": interval.value
        for outcome in outcomes(table)
        for name, interval in measure(outcome, horizon, None).items()
        if math.isfinite(interval.value)
    }
