"""A walk-forward, tracked: a run for the whole of it, and one for each fold below that."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunStatus

from flash_pipeline.settings import Settings
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.tracking.registry import run_url
from flash_pipeline.training.tracking.runs import (
    HOME_TAG,
    close_killed,
    ended,
    flat_params,
    origin_tags,
)
from flash_pipeline.training.tracking.store import connect, experiment_id

WALK_FORWARDS = "flash-walk-forward"
"""Name of the experiment of the walk-forwards: their models are measured and not registered, so
they stand apart from the trainings."""

_KEY_TAG = "walk_forward"
_FOLD_TAG = "fold"
_PARENT_TAG = "mlflow.parentRunId"

Log = Callable[[Mapping[str, float]], None]
"""Logs metrics."""


@dataclass(frozen=True)
class TrackedWalk:
    """The MLflow run of a walk-forward."""

    settings: Settings
    """Where MLflow is."""
    client: MlflowClient
    """To it."""
    run_id: str
    """Id of the run."""

    @property
    def url(self) -> str:
        """Page of the run."""
        return run_url(self.client, self.settings, self.run_id)

    @contextmanager
    def fold(self, number: int, facts: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Log]:
        """Open the run of a fold below this one; it fails where the block raises.

        One of the same fold that a killed process left open is closed as killed first.

        Parameters
        ----------
        number : int
            From 1.
        facts : mapping
            Parameters of the run, such as the fold's dates.
        tags : mapping
            What else to tag it with.

        Yields
        ------
        callable
            Logs metrics to the run.
        """
        experiment = self.client.get_run(self.run_id).info.experiment_id
        ours = f"tags.`{_PARENT_TAG}` = '{self.run_id}' and tags.{_FOLD_TAG} = '{number}'"
        for stale in self.client.search_runs([experiment], f"{ours} and status = 'RUNNING'"):
            self.client.set_terminated(stale.info.run_id, RunStatus.to_string(RunStatus.KILLED))
        own = {
            _PARENT_TAG: self.run_id,
            _FOLD_TAG: str(number),
            HOME_TAG: str(self.settings.home),
        }
        run = self.client.create_run(experiment, run_name=f"fold-{number}", tags={**own, **tags})
        self.client.log_batch(run.info.run_id, params=flat_params(facts))
        with ended(self.client, run.info.run_id):
            yield lambda values: self._log(run.info.run_id, values)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log what the folds came to, and end the run."""
        self._log(self.run_id, metrics)
        for path in files:
            self.client.log_artifact(self.run_id, str(path))
        self.client.set_terminated(self.run_id)

    def _log(self, run_id: str, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        values = [Metric(name, value, now, 0) for name, value in metrics.items()]
        self.client.log_batch(run_id, metrics=values)


def track_walk(
    settings: Settings,
    key: str,
    recipe: Recipe,
    snapshot: str,
    *,
    facts: Mapping[str, Any],
) -> TrackedWalk:
    """Return the run of a walk-forward, made when its key is asked for first.

    One that was given up for it, on the same home, is closed as killed.

    Parameters
    ----------
    key : str
        Names the walk-forward: equal keys are equal windows, folds, models and recipe.
    recipe : Recipe
        Of the transformer.
    snapshot : str
        Hash of the windows.
    facts : mapping
        Further parameters: how the history is walked through.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer.
    """
    client = connect(settings)
    experiment = experiment_id(client, settings, WALK_FORWARDS)
    known = client.search_runs([experiment], f"tags.{_KEY_TAG} = '{key}'", max_results=1)
    if known:
        return TrackedWalk(settings, client, known[0].info.run_id)
    close_killed(client, settings, experiment)
    all_tags = {_KEY_TAG: key, **origin_tags(settings, recipe, snapshot)}
    run = client.create_run(experiment, run_name=f"{recipe.name}-{snapshot[:8]}", tags=all_tags)
    client.log_batch(run.info.run_id, params=flat_params({**recipe.to_dict(), **facts}))
    return TrackedWalk(settings, client, run.info.run_id)
