"""Baselines in the registry: a registered model each, whose versions follow the data."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric

from flash_pipeline.training.baselines import Baseline, Boosting, load_baseline
from flash_pipeline.training.tracking.registry import (
    FINGERPRINT_TAG,
    RegisteredModel,
    Registry,
)
from flash_pipeline.training.tracking.runs import close_killed, ended, log_model
from flash_pipeline.training.tracking.served import BASELINE_ARTIFACT, baseline_signature
from flash_pipeline.training.tracking.store import experiment_id

BASELINE_EXPERIMENT = "flash-baselines"
"""Name of the experiment of the baselines: they are no trials of the model."""

NEWEST = "newest"
"""Alias of a baseline's version that was fitted or asked for last."""

_CODE = Path(__file__).with_name("served_baseline.py")


def baseline_name(kind: str) -> str:
    """Return the name of a baseline's registered model.

    Examples
    --------
    >>> baseline_name("last_value")
    'flash-baseline-last-value'
    """
    return f"flash-baseline-{kind.replace('_', '-')}"


def find_baseline(registry: Registry, kind: str, fingerprint: str) -> RegisteredModel | None:
    """Return the newest version of a baseline with a fingerprint, None where there is none."""
    return registry.named(baseline_name(kind)).find(fingerprint)


def stored_baseline(model: RegisteredModel) -> Baseline:
    """Return the baseline of a registered version.

    Raises
    ------
    BundleMismatch
        If this version of the package cannot read it.
    """
    return load_baseline(model.artifact(BASELINE_ARTIFACT))


@dataclass(frozen=True)
class TrackedBaselines:
    """An open MLflow run of fits on the same windows."""

    registry: Registry
    """Where they will be registered."""
    run_id: str
    """Id of the run."""
    tags: Mapping[str, str]
    """Tags of the run and the versions."""

    def register(
        self, baseline: Baseline, fingerprint: str, metrics: Mapping[str, float]
    ) -> RegisteredModel:
        """Log a baseline with its figures, make it a version, and point `newest` at it."""
        kind = baseline.kind
        values = [Metric(f"{kind}.{name}", value, 0, 0) for name, value in metrics.items()]
        self.registry.client.log_batch(self.run_id, metrics=values)
        uri = log_model(
            self.run_id,
            baseline.save,
            name=kind,
            artifact=BASELINE_ARTIFACT,
            code=_CODE,
            signature=baseline_signature(baseline.inputs),
            packages=("lightgbm",) if kind == Boosting.kind else (),
        )
        tags = {**self.tags, FINGERPRINT_TAG: fingerprint}
        return self.registry.named(baseline_name(kind)).register(uri, self.run_id, tags, NEWEST)


@contextmanager
def track_baselines(
    registry: Registry, snapshot: str, tags: Mapping[str, str]
) -> Iterator[TrackedBaselines]:
    """Open an MLflow run for the baselines of a snapshot; it fails where the block raises.

    Parameters
    ----------
    snapshot : str
        Hash of the windows.
    tags : mapping
        Of the run and the versions.
    """
    client = registry.client
    experiment = experiment_id(client, registry.settings, BASELINE_EXPERIMENT)
    close_killed(client, registry.settings, experiment)
    run = client.create_run(experiment, run_name=f"baselines-{snapshot[:8]}", tags=dict(tags))
    with ended(client, run.info.run_id):
        yield TrackedBaselines(registry, run.info.run_id, tags)
