"""One training, tracked: a run with parameters, metrics, pictures, and a registered version."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunStatus, RunTag
from mlflow.models import ModelSignature

from flash_pipeline.settings import Settings
from flash_pipeline.training.figures import loss_curve
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.tracking.registry import (
    FINGERPRINT_TAG,
    RECIPE_FILE,
    RegisteredModel,
    Registry,
)
from flash_pipeline.training.tracking.served import BUNDLE_ARTIFACT, signature
from flash_pipeline.training.tracking.store import experiment_id, quiet_mlflow
from flash_pipeline.training.trainer import Training

HOME_TAG = "home"
"""Tag of a run: the home that it works on."""

_PINNED = ("flash-pipeline", "mlflow", "numpy", "safetensors", "torch")
_SERVED_MODEL = Path(__file__).with_name("served_model.py")


@dataclass
class TrackedTraining:
    """An open MLflow run."""

    registry: Registry
    """Where the model will be registered."""
    run_id: str
    """Id of the run."""
    tags: Mapping[str, str]
    """Tags of the run and the version."""

    def log_epoch(self, epoch: Epoch) -> None:
        """Log the metrics of an epoch in one call."""
        now = int(time.time() * 1000)
        values = {
            "train_loss": epoch.train_loss,
            "validation_loss": epoch.validation_loss,
            "learning_rate": epoch.learning_rate,
            "gradient_norm": epoch.gradient_norm,
        }
        self.registry.client.log_batch(
            self.run_id, metrics=[Metric(k, v, now, epoch.number) for k, v in values.items()]
        )

    def register(self, training: Training) -> RegisteredModel:
        """Log the model and its figures, register the version and make it the challenger.

        The version appears with all its tags at once, after everything it needs is stored: a
        process that is killed before leaves a run, never half a model.
        """
        client = self.registry.client
        facts = {
            "attention": training.attention,
            "step": training.form,
            "device": training.device,
            "parameters": str(training.parameters),
            "members": str(len(training.bundle.member_weights)),
            "best_epoch": str(training.best.number),
            "resumed": training.resumed or "no",
        }
        client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in facts.items()])
        client.log_metric(self.run_id, "best_validation_loss", training.best.validation_loss)
        picture = loss_curve(training.history, title=f"Loss, {training.parameters:,} parameters")
        with TemporaryDirectory() as folder:
            (Path(folder) / "loss.png").write_bytes(picture)
            client.log_artifacts(self.run_id, folder)
        model_uri = log_model(
            self.run_id,
            training.bundle.save,
            name="model",
            artifact=BUNDLE_ARTIFACT,
            code=_SERVED_MODEL,
            signature=signature(training.bundle),
        )
        tags = {**self.tags, **facts}
        return self.registry.register(model_uri, self.run_id, tags)


def log_model(
    run_id: str,
    save: Callable[[Path], None],
    *,
    name: str,
    artifact: str,
    code: Path,
    signature: ModelSignature,
    packages: Sequence[str] = (),
) -> str:
    """Log a model to a run, without a pickle: its files, and the few lines of code that load them.

    Parameters
    ----------
    save : callable
        Writes the files into a folder.
    name : str
        Name among the run's models.
    artifact : str
        Name of the folder among the model's artifacts.
    code : Path
        File that MLflow runs when it loads the model.
    packages : sequence of str
        Further packages that it needs.

    Returns
    -------
    str
        Address to register.
    """
    with TemporaryDirectory() as folder, quiet_mlflow():
        stored = Path(folder) / artifact  # MLflow keeps the folder's own name
        stored.mkdir()
        save(stored)
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(code),
                artifacts={artifact: str(stored)},
                signature=signature,
                pip_requirements=[f"{p}=={package_version(p)}" for p in (*_PINNED, *packages)],
            )
    return str(info.model_uri)


@contextmanager
def track_training(
    registry: Registry, recipe: Recipe, snapshot: str, tags: Mapping[str, str]
) -> Iterator[TrackedTraining]:
    """Open an MLflow run for a training; it fails where the block raises.

    Runs that a killed process left open on this home are closed as killed first: trainings never
    run side by side on one home.

    Parameters
    ----------
    snapshot : str
        Hash of the window tensors.
    tags : mapping
        What else to tag the run and the version with, such as Dagster's run id.
    """
    client = registry.client
    experiment = experiment_id(client, registry.settings)
    close_killed(client, registry.settings, experiment)
    all_tags = {**origin_tags(registry.settings, recipe, snapshot), **tags}
    run = client.create_run(experiment, run_name=f"{recipe.name}-{snapshot[:8]}", tags=all_tags)
    run_id = run.info.run_id
    client.log_batch(run_id, params=flat_params(recipe.to_dict()))
    client.log_dict(run_id, recipe.to_dict(), RECIPE_FILE)
    with ended(client, run_id):
        yield TrackedTraining(registry, run_id, all_tags)


@contextmanager
def ended(client: MlflowClient, run_id: str) -> Iterator[None]:
    """End a run with the block: failed, with the error's words, where it raises."""
    try:
        yield
    except BaseException as error:
        client.set_tag(run_id, "error", f"{type(error).__name__}: {error}"[:5000])
        client.set_terminated(run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    client.set_terminated(run_id)


def close_killed(client: MlflowClient, settings: Settings, experiment: str) -> None:
    """Close the runs of an experiment that a killed process left open on this home."""
    ours = f"attributes.status = 'RUNNING' and tags.{HOME_TAG} = {str(settings.home)!r}"
    for stale in client.search_runs([experiment], ours):
        client.set_terminated(stale.info.run_id, RunStatus.to_string(RunStatus.KILLED))


def origin_tags(settings: Settings, recipe: Recipe, snapshot: str) -> dict[str, str]:
    """Return what a run was made from: recipe, data, code, home."""
    return {
        FINGERPRINT_TAG: recipe.fingerprint(snapshot),
        "snapshot": snapshot,
        HOME_TAG: str(settings.home),
        "recipe": recipe.name,
        "package_version": package_version("flash-pipeline"),
        "git_commit": _git_commit(),
    }


def flat_params(values: Mapping[str, Any]) -> list[Param]:
    """Return nested values as MLflow's parameters, names joined by points, values as JSON."""
    return [Param(name, value) for name, value in _flatten(values)]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)


def _git_commit() -> str:
    """Return the commit of the checkout, `unknown` where the package is no checkout."""
    project = Path(__file__).resolve().parents[3]
    command = ["git", "-C", str(project), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
