"""One training, tracked: a run with parameters, metrics, pictures, and a registered version."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunStatus, RunTag
from mlflow.models import Model, ModelSignature

from flash_pipeline.market import iso_utc
from flash_pipeline.settings import Settings, redacted
from flash_pipeline.training.figures import loss_curve
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.tracking import flavor
from flash_pipeline.training.tracking.card import model_card
from flash_pipeline.training.tracking.examples import example_candles
from flash_pipeline.training.tracking.monitor import system_metrics
from flash_pipeline.training.tracking.registry import (
    FINGERPRINT_TAG,
    RECIPE_FILE,
    RegisteredModel,
    Registry,
)
from flash_pipeline.training.tracking.served import BUNDLE_ARTIFACT, expected_inputs, signature
from flash_pipeline.training.tracking.store import experiment_id, quiet_mlflow
from flash_pipeline.training.trainer import Training
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

HOME_TAG = "home"
"""Tag of a run: the home that it works on."""

_DIGEST_LENGTH = 36  # MLflow takes no more
_LOADER = "flash_pipeline.training.tracking.served_model"


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

    def log_data(self, frame: WindowFrame, split: Split) -> None:
        """Log the windows as the run's dataset: snapshot, span and what they are made of."""
        described = {
            "snapshot": frame.snapshot,
            "synthetic": frame.synthetic,
            "symbols": list(frame.symbols),
            "features": list(frame.features),
            "interval": frame.interval.value,
            "lookback": frame.lookback,
            "horizon": frame.horizon,
            "windows": len(frame.anchor_N),
            "from": iso_utc(int(frame.anchor_N[0])),
            "to": iso_utc(int(frame.anchor_N[-1])),
            "training windows": len(split.train_N),
            "validation windows": len(split.validation_N),
            "test windows": len(split.test_N),
        }
        dataset = Dataset(
            name="windows",
            digest=frame.snapshot[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": self.registry.settings.windows.as_uri()}),
            profile=json.dumps(described),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self.registry.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def register(self, training: Training) -> RegisteredModel:
        """Log the model and its figures, register the version and make it the challenger.

        The version appears with all its tags at once, after everything it needs is stored: a
        process that is killed before leaves a run, never half a model.
        """
        client = self.registry.client
        training = _with_sessions(training, dict(self.registry.settings.yahoo_tickers))
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
            client,
            self.run_id,
            training.bundle.save,
            name="model",
            artifact=BUNDLE_ARTIFACT,
            loader=_LOADER,
            signature=signature(),
            example=None if training.bundle.sessional else example_candles(training.bundle),
            metadata={
                "inputs": expected_inputs(training.bundle),
                "synthetic": training.bundle.provenance.synthetic,
            },
        )
        tags = {**self.tags, **facts}
        return self.registry.register(
            model_uri, self.run_id, tags, description=model_card(self.registry.name, training)
        )


def _with_sessions(training: Training, tickers: Mapping[str, str]) -> Training:
    """Note in the bundle which of its symbols are of markets that close."""
    sessional = tuple(symbol for symbol in training.bundle.symbols if symbol in tickers)
    return replace(training, bundle=replace(training.bundle, sessional=sessional))


def log_model(
    client: MlflowClient,
    run_id: str,
    save: Callable[[Path], None],
    *,
    name: str,
    artifact: str,
    loader: str,
    signature: ModelSignature,
    packages: Sequence[str] = (),
    example: Any = None,  # noqa: ANN401  (MLflow's own, untyped)
    metadata: Mapping[str, str | bool] | None = None,
) -> str:
    """Log a model to a run, without a pickle: see `flavor`.

    Parameters
    ----------
    save : callable
        Writes the files into a folder.
    name : str
        Name among the run's models.
    artifact : str
        Name of the folder among the model's artifacts.
    loader : str
        Module of this package that opens it.
    packages : sequence of str
        Further packages that it needs.
    example : DataFrame or tuple of it and parameters, or None
        An input that it takes.
    metadata : mapping or None
        Words for `model.metadata.metadata`.

    Returns
    -------
    str
        Address to register.
    """
    with quiet_mlflow():
        run = client.get_run(run_id)
        made = client.create_logged_model(
            run.info.experiment_id, name, source_run_id=run_id, params=run.data.params
        )
        info = Model.log(
            None,
            flavor,
            model_id=made.model_id,
            run_id=run_id,
            metadata=dict(metadata or {}),
            save=save,
            artifact=artifact,
            loader=loader,
            model_signature=signature,
            packages=packages,
            example=example,
            validate_serving_input=False,
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
    with ended(client, run_id), system_metrics(run_id):
        yield TrackedTraining(registry, run_id, all_tags)


@contextmanager
def ended(client: MlflowClient, run_id: str) -> Iterator[None]:
    """End a run with the block: failed, with the error's words, where it raises."""
    try:
        yield
    except BaseException as error:
        client.set_tag(run_id, "error", redacted(f"{type(error).__name__}: {error}")[:5000])
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
