"""The model registry: versions, aliases, and bundles read back without a pickle."""

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from flash_pipeline.errors import BundleMismatch, ModelNotRegistered
from flash_pipeline.settings import Settings, redacted
from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.tracking.opening import stored_folder
from flash_pipeline.training.tracking.served import ARTIFACTS, BUNDLE_ARTIFACT
from flash_pipeline.training.tracking.store import connect

MODEL_NAME = "flash-attention-trader"
"""Name of the registered model."""

CHAMPION = "champion"
"""Alias of the version that makes the forecasts."""

CHALLENGER = "challenger"
"""Alias of the version trained last."""

RIVAL_TAG = "rival"
"""Tag of a version: the champion when it was trained, empty where there was none. Of an order
book's or a portfolio's model: the champion that it replaced."""

RECIPE_FILE = "recipe.json"
"""File of a training's run: its recipe."""

FINGERPRINT_TAG = "fingerprint"
"""Tag of a version: hash of the recipe and the data it was trained on."""

_LOGGED = "models:/"
_REPORT = "report"
_DESCRIPTION = "Versions of flash_pipeline; each has a card of its own."

# MLflow answers a missing alias with the first code and a missing model with the second.
_ABSENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}


@dataclass(frozen=True)
class RegisteredModel:
    """One version of the registered model."""

    version: str
    """Version number, as MLflow writes it."""
    run_id: str
    """MLflow run that trained it."""
    tags: dict[str, str]
    """Tags of the version."""
    name: str = MODEL_NAME
    """Name of the registered model."""

    @property
    def uri(self) -> str:
        """Address for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"

    @cached_property
    def bundle(self) -> ModelBundle:
        """The stored bundle: weights, scalers, order of inputs."""
        return ModelBundle.load(self.artifact(BUNDLE_ARTIFACT))

    def artifact(self, name: str) -> Path:
        """Return the folder of one of the model's artifacts, brought here where it is not.

        Raises
        ------
        BundleMismatch
            If the model's files are gone.
        """
        return stored_folder(self.uri) / ARTIFACTS / name

    @cached_property
    def opened(self) -> ModelBundle | UnreadableBundle:
        """The stored bundle, or why it cannot be used, for a caller that has another way to go on.

        A store that does not answer is no reason: such an error is raised as ever.
        """
        try:
            self.bundle.build_all()
        except BundleMismatch as error:
            return UnreadableBundle(str(error))
        return self.bundle


class Registry:
    """Looks versions of one registered model up and moves its aliases.

    Parameters
    ----------
    settings : Settings
        Where MLflow is.
    name : str
        Name of the registered model.

    Raises
    ------
    TrackingUnreachable
        If the store does not answer.
    """

    def __init__(self, settings: Settings, name: str = MODEL_NAME) -> None:
        self.settings, self.name = settings, name
        self.client: MlflowClient = connect(settings)

    def named(self, name: str) -> "Registry":
        """Return that of another registered model in the same store."""
        other = copy.copy(self)
        other.name = name
        return other

    def at(self, alias: str) -> RegisteredModel | None:
        """Return the version an alias stands for, None where there is none."""
        try:
            found = self.client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise
        return _registered(found)

    def rival_of(self, challenger: RegisteredModel) -> RegisteredModel | None:
        """Return the model that a challenger has to beat, None where there is none.

        It is the champion. Where the challenger has become the champion itself, it is the one
        that it replaced: so a repeated evaluation gives the same figures.
        """
        champion = self.at(CHAMPION)
        if champion is None or champion.version != challenger.version:
            return champion
        version = challenger.tags.get(RIVAL_TAG, "")
        return _registered(self.client.get_model_version(self.name, version)) if version else None

    def require(self, alias: str) -> RegisteredModel:
        """Return the version an alias stands for.

        Raises
        ------
        ModelNotRegistered
            If there is none.
        """
        found = self.at(alias)
        if found is None:
            store = redacted(self.settings.tracking_uri)
            raise ModelNotRegistered(
                f"models:/{self.name}@{alias} does not exist in {store!r}: "
                "run the job first (make run)"
            )
        return found

    def version(self, version: str) -> RegisteredModel:
        """Return a version by its number.

        Raises
        ------
        ModelNotRegistered
            If there is no such version.
        """
        try:
            return _registered(self.client.get_model_version(self.name, version))
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            store = redacted(self.settings.tracking_uri)
            raise ModelNotRegistered(
                f"models:/{self.name}/{version} does not exist in {store!r}"
            ) from error

    def find(self, fingerprint: str) -> RegisteredModel | None:
        """Return the newest version of a fingerprint, None where it was never trained."""
        found = self.client.search_model_versions(
            f"name = '{self.name}' and tags.{FINGERPRINT_TAG} = '{fingerprint}'",
            order_by=["version_number DESC"],
        )
        return _registered(found[0]) if found else None

    def recipe(self, model: RegisteredModel) -> Recipe:
        """Return the recipe that trained a version.

        Raises
        ------
        ModelNotRegistered
            If the run stores none.
        InvalidConfig
            If it is of another version of this package.
        """
        try:
            values = mlflow.artifacts.load_dict(f"runs:/{model.run_id}/{RECIPE_FILE}")
        except MlflowException as error:
            raise ModelNotRegistered(
                f"the run of version {model.version} stores no {RECIPE_FILE}"
            ) from error
        return Recipe.from_dict(values)

    def url(self, model: RegisteredModel) -> str:
        """Return the page of the MLflow run that trained a version: see `run_url`."""
        return run_url(self.client, self.settings, model.run_id)

    def version_url(self, model: RegisteredModel) -> str:
        """Return the page of a version; `models:/name/version` where no MLflow UI is known."""
        base = ui_url(self.settings)
        return f"{base}/#/models/{model.name}/versions/{model.version}" if base else model.uri

    def report_url(self, model: RegisteredModel, file: str) -> str:
        """Return where the run of a version shows a file of its report: see `run_url`."""
        within = f"artifacts/{_REPORT}" if ui_url(self.settings) else _REPORT
        return f"{self.url(model)}/{within}/{file}"

    def history(self, model: RegisteredModel) -> list[Epoch]:
        """Return the epochs of the training that gave a version, oldest first."""
        series = {
            field.name: {
                metric.step: metric.value
                for metric in self.client.get_metric_history(model.run_id, field.name)
            }
            for field in dataclasses.fields(Epoch)
            if field.name != "number"
        }
        return [
            Epoch(number, **{name: values[number] for name, values in series.items()})
            for number in sorted(series["validation_loss"])
        ]

    def register(
        self,
        model_uri: str,
        run_id: str,
        tags: Mapping[str, str],
        alias: str = CHALLENGER,
        *,
        description: str | None = None,
    ) -> RegisteredModel:
        """Make a logged model a version, with tags and card at once, and give it the alias."""
        try:
            self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code not in _ABSENT:
                raise
            self.client.create_registered_model(self.name, description=_DESCRIPTION)
        made = self.client.create_model_version(
            self.name, model_uri, run_id=run_id, tags=dict(tags), description=description
        )
        if model_uri.startswith(_LOGGED):
            version = {"name": self.name, "version": made.version}
            self.client.set_logged_model_tags(
                model_uri.removeprefix(_LOGGED), {MLFLOW_MODEL_VERSIONS: json.dumps([version])}
            )
        self.point(alias, str(made.version))
        return RegisteredModel(str(made.version), run_id, dict(tags), self.name)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Add tags to a version."""
        for name, value in tags.items():
            self.client.set_model_version_tag(self.name, version, name, value)

    def point(self, alias: str, version: str) -> None:
        """Move an alias to a version."""
        self.client.set_registered_model_alias(self.name, alias, version)

    def add_report(
        self, model: RegisteredModel, folder: Path, metrics: Mapping[str, float], made_at: int
    ) -> None:
        """Log a backtest report's files and figures to the run that trained the model.

        Parameters
        ----------
        made_at : int
            Instant of the report, ms since the epoch: the same report logged twice is one.
        """
        self.client.log_artifacts(model.run_id, str(folder), _REPORT)
        values = [Metric(f"backtest.{k}", v, made_at, 0) for k, v in metrics.items()]
        self.client.log_batch(model.run_id, metrics=values)


def run_url(client: MlflowClient, settings: Settings, run_id: str) -> str:
    """Return the page of an MLflow run; `runs:/id`, as MLflow knows it, where no UI is known."""
    base = ui_url(settings)
    if not base:
        return f"runs:/{run_id}"
    experiment = client.get_run(run_id).info.experiment_id
    return f"{base}/#/experiments/{experiment}/runs/{run_id}"


def ui_url(settings: Settings) -> str:
    """Return where the MLflow UI is: as the settings say, else the tracking server's own.

    Without a user or password. Empty beside a database of which no UI is known: `flash_pipeline
    dev` says where its is.
    """
    if settings.mlflow_ui or not settings.tracking_uri.startswith("http"):
        return settings.mlflow_ui
    server = urlsplit(settings.tracking_uri)
    return server._replace(netloc=server.netloc.rpartition("@")[2], query="").geturl()


def _registered(version: Any) -> RegisteredModel:  # noqa: ANN401  (MLflow's own, untyped)
    tags = dict(version.tags)
    return RegisteredModel(str(version.version), str(version.run_id), tags, str(version.name))
