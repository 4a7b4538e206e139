"""The models of long sequences in the registry: an order book's, a market's, a name for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow.entities import Metric

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.settings import Settings
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.sources import code_hash
from flash_pipeline.training.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    FINGERPRINT_TAG,
    RIVAL_TAG,
    RegisteredModel,
    Registry,
    run_url,
)
from flash_pipeline.training.tracking.runs import (
    HOME_TAG,
    close_killed,
    ended,
    flat_params,
    log_model,
)
from flash_pipeline.training.tracking.served_grid import GRID_ARTIFACT, grid_signature
from flash_pipeline.training.tracking.store import experiment_id

ORDER_BOOK_MODEL = "flash-order-book"
"""Name of the registered model of order books, and of its experiment."""

PORTFOLIO_MODEL = "flash-portfolio"
"""Name of the registered model of portfolios, and of its experiment."""

_LOADER = "flash_pipeline.training.tracking.served_grid_model"


@dataclass(frozen=True)
class RegisteredSequence:
    """One version of such a model."""

    name: str
    """Name of the registered model."""
    version: str
    """Version number, as MLflow writes it."""
    run_id: str
    """MLflow run that it comes from."""
    url: str
    """Page of that run."""
    tags: Mapping[str, str]
    """Tags of the version."""

    @property
    def uri(self) -> str:
        """Address for `mlflow.pyfunc.load_model`."""
        return f"models:/{self.name}/{self.version}"


def register_sequence_model(
    settings: Settings,
    name: str,
    bundle: GridBundle,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float],
    figures: Mapping[str, bytes],
    tags: Mapping[str, str],
    example: npt.NDArray[np.float32],
    known: RegisteredSequence | None = None,
) -> RegisteredSequence:
    """Log a model with its figures to a run of its own, register it, and make it the challenger.

    The version appears with its tags after all that it needs is stored, and the alias moves last:
    a process that is killed before leaves a run, and the alias where it was. One that is killed
    after leaves a version whose session is not stored: the next registers none beside it.

    Parameters
    ----------
    name : str
        Of the registered model and of its experiment, such as `flash-order-book`.
    params : mapping
        Parameters of the run; nested ones are joined by points.
    metrics : mapping of str to float
        Finite figures of the run.
    figures : mapping of str to bytes
        Pictures by file name, such as `loss.png`.
    tags : mapping
        Of the run and the version; `fingerprint` is what `find_sequence` looks for.
    example : array [n, moments, *cells, inputs]
        Windows that the signature is taken from; the first's last moment is predicted once.
    known : RegisteredSequence or None
        A version of the same training that has no session. Where its weights are those of the
        bundle it is taken in place of a new one.

    Raises
    ------
    TrackingUnreachable
        If MLflow does not answer.
    """
    registry = Registry(settings, name)
    client = registry.client
    experiment = experiment_id(client, settings, name)
    card = model_card(name, bundle, metrics)
    if known is not None and _holds(settings, known, bundle):
        with ended(client, known.run_id):
            registry.point(CHALLENGER, known.version)
            client.update_model_version(name, known.version, card)
        return known
    close_killed(client, settings, experiment)
    all_tags = {
        "kind": bundle.kind,
        HOME_TAG: str(settings.home),
        "package_version": package_version("flash-pipeline"),
        "code": code_hash(),
        **tags,
    }
    run = client.create_run(experiment, run_name=name, tags=all_tags)
    run_id = run.info.run_id
    with ended(client, run_id):
        client.log_batch(
            run_id,
            params=flat_params({"model": bundle.config.to_dict(), **params}),
            metrics=[Metric(key, value, 0, 0) for key, value in metrics.items()],
        )
        with TemporaryDirectory() as folder:
            for file, picture in figures.items():
                (Path(folder) / file).write_bytes(picture)
            client.log_artifacts(run_id, folder)
        uri = log_model(
            client,
            run_id,
            bundle.save,
            name="model",
            artifact=GRID_ARTIFACT,
            loader=_LOADER,
            signature=grid_signature(bundle, example),
        )
        made = registry.register(uri, run_id, all_tags, CHALLENGER)
        client.update_model_version(name, made.version, card)
        return _sequence(registry, made)


def _holds(settings: Settings, known: RegisteredSequence, bundle: GridBundle) -> bool:
    """Say whether a version stores exactly these weights."""
    mine = bundle.weights
    try:
        theirs = load_sequence_bundle(settings, known.name, known.version).weights
    except BundleMismatch:
        return False
    return mine.keys() == theirs.keys() and all(mine[key].equal(theirs[key]) for key in mine)


def find_sequence(settings: Settings, name: str, fingerprint: str) -> RegisteredSequence | None:
    """Return the newest version with a fingerprint, None where there is none."""
    registry = Registry(settings, name)
    found = registry.find(fingerprint)
    return None if found is None else _sequence(registry, found)


def sequence_at(settings: Settings, name: str, alias: str = CHAMPION) -> RegisteredSequence | None:
    """Return the version that an alias stands for, None where there is none."""
    registry = Registry(settings, name)
    found = registry.at(alias)
    return None if found is None else _sequence(registry, found)


def sequence_version(settings: Settings, name: str, version: str) -> RegisteredSequence:
    """Return a version by its number.

    Raises
    ------
    ModelNotRegistered
        If there is no such version.
    """
    registry = Registry(settings, name)
    return _sequence(registry, registry.version(version))


def load_sequence_bundle(settings: Settings, name: str, alias: str = CHAMPION) -> GridBundle:
    """Return the bundle of the version that an alias, or a version number, stands for.

    Raises
    ------
    ModelNotRegistered
        If there is none.
    BundleMismatch
        If this version of the package cannot read it.
    """
    registry = Registry(settings, name)
    found = registry.version(alias) if alias.isdigit() else registry.require(alias)
    return GridBundle.load(found.artifact(GRID_ARTIFACT))


def point_sequence(settings: Settings, name: str, alias: str, version: str) -> None:
    """Move an alias to a version."""
    Registry(settings, name).point(alias, version)


def settle_champion(
    settings: Settings, name: str, version: str, edge: tuple[float, float] | None
) -> str:
    """Make a version the champion where it has earned it, and say in words what became of it.

    Parameters
    ----------
    edge : (float, float) or None
        Interval of how much better it is than the champion on the same held-out dates, above 0
        where it is better. None where they could not be compared: then it takes the place of no
        champion but its own.
    """
    registry = Registry(settings, name)
    champion = registry.at(CHAMPION)
    if champion is None:
        registry.point(CHAMPION, version)
        return f"version {version} is the champion: there was none"
    if champion.version == version:
        return f"version {version} is the champion already"
    if edge is None:
        return f"version {champion.version} stays the champion: the two could not be compared"
    span = f"[{edge[0]:+.4g}, {edge[1]:+.4g}]"
    if not edge[0] > 0:
        return f"version {champion.version} stays the champion: the edge over it is {span}"
    registry.tag(version, {RIVAL_TAG: champion.version})  # the one to go back to
    registry.point(CHAMPION, version)
    return f"version {version} is the champion: better than {champion.version} by {span}"


def add_sequence_report(
    settings: Settings, model: RegisteredSequence, folder: Path, metrics: Mapping[str, float]
) -> None:
    """Log a report's files and figures to the run that a version comes from."""
    client = Registry(settings, model.name).client
    client.log_artifacts(model.run_id, str(folder), "report")
    values = [Metric(f"report.{name}", value, 0, 0) for name, value in metrics.items()]
    client.log_batch(model.run_id, metrics=values)


def model_card(name: str, bundle: GridBundle, metrics: Mapping[str, float]) -> str:
    """Return what a reader of the registry should know of a version, in Markdown.

    Parts: what it predicts, on what it was fitted, its figures, and its limits.
    """
    config, details = bundle.config, bundle.details
    book = bundle.kind == "order_book"
    predicts = (
        "Probabilities of down, flat and up of the mid price at several horizons, from one token "
        "per snapshot, side and level."
        if book
        else "Weights of a portfolio, from one token per hour and asset."
    )
    synthetic = details.get("synthetic")
    source = {True: "simulated", False: "real"}.get(synthetic, "unknown")  # type: ignore[arg-type]
    rows = [f"| {key} | {value:.6g} |" for key, value in sorted(metrics.items())]
    return "\n".join(
        [
            f"# {name}",
            "",
            predicts,
            "",
            f"- Tokens of a window: {config.n_cells * config.max_moments:,} "
            f"({config.max_moments:,} moments of {config.n_cells:,}), layout `{config.layout}`",
            f"- Width {config.d_model}, {config.n_layers} layers of {config.n_heads} heads of "
            f"{config.head_size}",
            f"- Data: {source}",
            *(f"- {key}: {details[key]}" for key in _SHOWN if key in details),
            "",
            "| figure | value |",
            "|---|---|",
            *rows,
            "",
            "A token that is absent is NaN in the input and left out of every layer. "
            + ("Figures on simulated data say nothing of a real market." if synthetic else ""),
        ]
    )


_SHOWN = ("symbols", "horizons", "inputs", "train_from", "train_until", "seen_until", "tested_from")


def _sequence(registry: Registry, model: RegisteredModel) -> RegisteredSequence:
    url = run_url(registry.client, registry.settings, model.run_id)
    return RegisteredSequence(registry.name, model.version, model.run_id, url, model.tags)


__all__ = [
    "FINGERPRINT_TAG",
    "ORDER_BOOK_MODEL",
    "PORTFOLIO_MODEL",
    "RegisteredSequence",
    "add_sequence_report",
    "find_sequence",
    "load_sequence_bundle",
    "model_card",
    "point_sequence",
    "register_sequence_model",
    "sequence_at",
    "sequence_version",
    "settle_champion",
]
