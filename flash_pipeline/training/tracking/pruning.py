"""What MLflow need not keep: old versions, their models, and the runs that trained them.

MLflow deletes softly: a deleted run is a row with a mark, its artifacts stay, and so does a logged
model. `mlflow gc` removes both for good, of every experiment of the store. Here the same steps are
taken for ours alone: mark, remove the artifacts, remove the rows. Each finds its thing again where
the one before it was the last that a killed process did.

The store of a server cannot be reached this way. There, runs and models are marked, and `mlflow
gc`, called beside the server, frees the disk.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from flash_pipeline.settings import Settings
from flash_pipeline.storage.retention import Item, tree_size
from flash_pipeline.training.tracking.baselines import BASELINE_EXPERIMENT, baseline_name
from flash_pipeline.training.tracking.registry import CHAMPION, MODEL_NAME, RIVAL_TAG, Registry
from flash_pipeline.training.tracking.sequences import ORDER_BOOK_MODEL, PORTFOLIO_MODEL
from flash_pipeline.training.tracking.store import EXPERIMENT, quiet_mlflow
from flash_pipeline.training.tracking.walks import WALK_FORWARDS

_SEQUENCES = (ORDER_BOOK_MODEL, PORTFOLIO_MODEL)  # each the name of its experiment as well
_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_PAGE = 500
_ENDED = {"FINISHED", "FAILED", "KILLED"}
_PARENT_TAG = "mlflow.parentRunId"


def old_models(
    settings: Settings,
    *,
    keep: int,
    champions: int,
    models_before: int,
    runs_before: int,
    protected: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> list[Item]:
    """Return the versions, models and runs that can go, each kind oldest first.

    Of the model, of those of order books and portfolios, of each baseline, and of the
    walk-forwards, which register none. Of a baseline `keep` counts alone, as does its alias: an
    older one is fitted again where it is asked for.

    A version stays that has an alias, or is among the newest, or was made late enough, or was the
    champion shortly before: along the `rival` tags, from whatever has an alias. A run stays that
    trained such a version, is at work, or ended late enough; a child stays with its parent.

    Parameters
    ----------
    keep : int
        How many of the newest versions of each model stay.
    champions : int
        How many champions before the present one stay, to go back to.
    models_before, runs_before : int
        What is younger stays, ms since the epoch.
    protected : mapping of str to collection of str
        Further versions that stay, by the name of the registered model.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer.
    """
    parts = urlsplit(settings.tracking_uri)
    if parts.scheme == "sqlite" and not Path(parts.path.removeprefix("/")).is_file():
        return []
    client = Registry(settings).client
    with quiet_mlflow():
        plans = (
            _Plan(client, EXPERIMENT, [MODEL_NAME], champions, protected),
            *(_Plan(client, name, [name], champions, protected) for name in _SEQUENCES),
            _Plan(client, BASELINE_EXPERIMENT, _baseline_names(client), 0, {}),
            _Plan(client, WALK_FORWARDS, [], 0, {}),
        )
        return [item for plan in plans for item in plan.items(keep, models_before, runs_before)]


class _Plan:
    """The versions, models and runs of one of the project's experiments."""

    def __init__(
        self,
        client: MlflowClient,
        experiment: str,
        names: Sequence[str],
        champions: int,
        protected: Mapping[str, Collection[str]],
    ) -> None:
        self._client, self._names = client, names
        self._champions, self._protected = champions, protected
        self._versions = {name: _versions(client, name) for name in names}
        found = client.get_experiment_by_name(experiment)
        self._experiment = None if found is None else str(found.experiment_id)

    def items(self, keep: int, models_before: int, runs_before: int) -> Iterator[Item]:
        left: list[Any] = []
        registered: set[str] = set()
        for name, versions in self._versions.items():
            newest = sorted(versions, key=int, reverse=True)[:keep]
            kept = self._needed(name) | set(newest)
            for number in sorted(versions, key=int):
                version = versions[number]
                registered.add(_model_id(version))
                if number in kept or version.creation_timestamp >= models_before:
                    left.append(version)
                else:
                    yield self._version_item(name, version)
        if self._experiment is None:
            return
        yield from self._orphans(registered, models_before)
        yield from self._runs({str(each.run_id) for each in left}, runs_before)

    def _needed(self, name: str) -> set[str]:
        """Return the versions with an alias, the champions before them, and the protected ones."""
        aliases: Mapping[str, str] = {}
        with _absent_allowed():
            aliases = self._client.get_registered_model(name).aliases
        needed = set(self._protected.get(name, ()))
        for alias, number in aliases.items():
            # The rival of the others, such as the challenger, is the champion itself.
            steps = self._champions + (alias != CHAMPION)
            needed.update(self._chain(name, str(number), steps))
        return needed

    def _chain(self, name: str, number: str, steps: int) -> list[str]:
        """Return a version and so many before it, along the `rival` tags."""
        chain = [number]
        for _ in range(steps):
            tags: Mapping[str, str] = getattr(self._versions[name].get(chain[-1]), "tags", {})
            rival = tags.get(RIVAL_TAG, "")
            if not rival or rival in chain:
                break
            chain.append(rival)
        return chain

    def _version_item(self, name: str, version: Any) -> Item:  # noqa: ANN401  (MLflow's own, untyped)
        client, model_id, number = self._client, _model_id(version), str(version.version)

        def remove() -> None:
            with quiet_mlflow():
                # MLflow keeps a deleted version's tags, which are most of its rows.
                for tag in version.tags:
                    with _absent_allowed():
                        client.delete_model_version_tag(name, number, tag)
                with _absent_allowed():
                    client.delete_model_version(name, number)
                if model_id:
                    _remove_model(client, model_id)

        size = _model_size(client, model_id)
        told = number if name == MODEL_NAME else f"{name}/{number}"
        return Item("model version", told, size, version.creation_timestamp, remove)

    def _orphans(self, registered: set[str], before: int) -> Iterator[Item]:
        """Yield logged models of no version: a process was killed between the two."""
        for model in _logged_models(self._client, str(self._experiment)):
            if model.model_id in registered or model.creation_timestamp >= before:
                continue
            size = _local_size(model.artifact_location)
            client, name = self._client, str(model.model_id)

            def remove(client: MlflowClient = client, name: str = name) -> None:
                with quiet_mlflow():
                    _remove_model(client, name)

            yield Item("logged model", name, size, model.creation_timestamp, remove)

    def _runs(self, needed: set[str], before: int) -> Iterator[Item]:
        runs = {run.info.run_id: run for run in _runs(self._client, str(self._experiment))}
        gone = {
            run_id
            for run_id, run in runs.items()
            if run_id not in needed
            and run.info.status in _ENDED
            and (run.info.end_time or run.info.start_time) < before
        }
        for run_id in sorted(gone, key=lambda each: runs[each].info.start_time):
            parent = runs[run_id].data.tags.get(_PARENT_TAG, "")
            if parent in runs and parent not in gone:
                continue
            yield self._run_item(runs[run_id])

    def _run_item(self, run: Any) -> Item:  # noqa: ANN401  (MLflow's own, untyped)
        client, info = self._client, run.info

        def remove() -> None:
            with quiet_mlflow():
                _remove_run(client, info.run_id, info.artifact_uri)

        size = _local_size(info.artifact_uri)
        return Item("MLflow run", info.run_id, size, info.end_time or info.start_time, remove)


def _remove_run(client: MlflowClient, run_id: str, artifacts: str) -> None:
    with _absent_allowed():
        client.delete_run(run_id)
    store = _hard_deleting_store(client)
    if store is None:
        return
    _remove_artifacts(artifacts)
    with _absent_allowed():
        store._hard_delete_run(run_id)


def _remove_model(client: MlflowClient, model_id: str) -> None:
    """Remove a logged model; not marked before, since a marked one is not found again."""
    store = _hard_deleting_store(client)
    with _absent_allowed():
        if store is None:
            client.delete_logged_model(model_id)
            return
        _remove_artifacts(client.get_logged_model(model_id).artifact_location)
        store._hard_delete_logged_model(model_id)


def _remove_artifacts(uri: str) -> None:
    repository: Any = get_artifact_repository(uri)  # untyped
    repository.delete_artifacts()
    folder = _local_path(uri)
    if folder is not None:  # `<id>/artifacts`: the folder of the id stays behind otherwise
        with suppress(OSError):
            folder.parent.rmdir()


def _hard_deleting_store(client: MlflowClient) -> Any:  # noqa: ANN401  (MLflow's own, untyped)
    """Return the store behind a client where it is a database; None for that of a server."""
    store = client._tracking_client.store
    methods = ("_hard_delete_run", "_hard_delete_logged_model")
    return store if all(hasattr(store, name) for name in methods) else None


class _absent_allowed(suppress):
    """Suppress MLflow's answer that something is not there, or deleted already, for the block."""

    def __init__(self) -> None:
        super().__init__(MlflowException)

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:  # noqa: ANN401
        if isinstance(error, MlflowException) and error.error_code != _ABSENT:
            return False
        return super().__exit__(kind, error, traceback)


def _baseline_names(client: MlflowClient) -> list[str]:
    prefix = baseline_name("")
    found = client.search_registered_models(f"name LIKE '{prefix}%'", max_results=_PAGE)
    return [str(each.name) for each in found]


def _versions(client: MlflowClient, name: str) -> dict[str, Any]:
    """Return the versions of a registered model by their number."""
    found: dict[str, Any] = {}
    token: str | None = None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", max_results=_PAGE, page_token=token)
        found |= {str(each.version): each for each in page}
        token = page.token or ""
    return found


def _logged_models(client: MlflowClient, experiment: str) -> Iterator[Any]:
    token: str | None = None
    while token != "":
        page = client.search_logged_models([experiment], page_token=token)
        yield from page
        token = page.token or ""


def _runs(client: MlflowClient, experiment: str) -> Iterator[Any]:
    """Yield the runs of an experiment, those marked as deleted too where they can be removed.

    On a server a mark is all there is, and its date is what `mlflow gc --older-than` goes by: a run
    that is marked is left alone.
    """
    removable = _hard_deleting_store(client) is not None
    view = ViewType.ALL if removable else ViewType.ACTIVE_ONLY
    token: str | None = None
    while token != "":
        page = client.search_runs(
            [experiment], run_view_type=view, max_results=_PAGE, page_token=token
        )
        yield from page
        token = page.token or ""


def _model_id(version: Any) -> str:  # noqa: ANN401  (MLflow's own, untyped)
    """Return the logged model of a version, by its source `models:/m-...`; empty without one."""
    source = str(version.source or "")
    return source.removeprefix("models:/") if source.startswith("models:/m-") else ""


def _model_size(client: MlflowClient, model_id: str) -> int:
    if model_id:
        with _absent_allowed():
            return _local_size(client.get_logged_model(model_id).artifact_location)
    return 0


def _local_size(uri: str) -> int:
    folder = _local_path(uri)
    return 0 if folder is None else tree_size(folder)


def _local_path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def database_files(settings: Settings) -> Iterable[Path]:
    """Return the sqlite file of the store, where it is one, to give its unused pages back."""
    parts = urlsplit(settings.tracking_uri)
    return [Path(parts.path.removeprefix("/"))] if parts.scheme == "sqlite" else []
