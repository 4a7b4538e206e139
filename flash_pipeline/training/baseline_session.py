"""The baselines fitted on stored windows: once for equal data and ranges, then from the registry.

Shape letters: N windows, S symbols.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from flash_pipeline import __version__
from flash_pipeline.errors import BundleMismatch, InvalidConfig, ModelError
from flash_pipeline.settings import Settings, error_line
from flash_pipeline.training.baselines import BASELINES, Baseline
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.sources import code_hash
from flash_pipeline.training.tracking.baselines import (
    NEWEST,
    TrackedBaselines,
    baseline_name,
    find_baseline,
    stored_baseline,
    track_baselines,
)
from flash_pipeline.training.tracking.registry import RegisteredModel, Registry
from flash_pipeline.training.tracking.runs import origin_tags
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split, SplitConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline and its version in the registry."""

    baseline: Baseline
    """The fitted model."""
    model: RegisteredModel
    """Its version."""
    r2_against_zero: float
    """1 - squared error / squared label over the validation range; NaN for flat labels."""
    seconds: float
    """Time to fit it; 0 where it was found in the registry."""


@dataclass(frozen=True)
class BaselineSession:
    """What became of a request to fit baselines."""

    fitted: Mapping[str, FittedBaseline]
    """By name, simplest first."""
    left_out: Mapping[str, str]
    """Why a baseline cannot be fitted or registered here, by name."""


@dataclass(frozen=True)
class ReadyBaselines:
    """Baselines to compare a model with."""

    baselines: Mapping[str, Baseline]
    """Fitted ones by name, in the order asked for."""
    left_out: Mapping[str, str]
    """Why a baseline cannot be fitted here, by name."""


def baseline_fingerprint(kind: str, split: SplitConfig, snapshot: str) -> str:
    """Name a fit: equal baselines on equal data and ranges, by the same code."""
    values = [kind, asdict(split), snapshot, __version__, code_hash()]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def fit_baselines(
    settings: Settings,
    frame: WindowFrame,
    split: Split,
    recipe: Recipe,
    *,
    tags: Mapping[str, str],
    names: Sequence[str] = tuple(BASELINES),
) -> BaselineSession:
    """Fit baselines on the ranges of the recipe's model and register a version of each.

    One that was fitted on exactly this data already gives its registered version again.

    Parameters
    ----------
    recipe : Recipe
        Of the model that they stand beside: `split` is by its configuration.
    tags : mapping
        Further tags of the MLflow run and the versions.
    names : sequence of str
        Of `BASELINES`. One that cannot run on this machine, or fails, is left out.

    Raises
    ------
    InvalidConfig
        For an unknown name.
    ModelError
        If every one fails.
    TrackingUnreachable
        If MLflow does not answer; nothing is fitted then.
    """
    left_out = _left_out(names)
    registry = Registry(settings)
    prints = _fingerprints(names, left_out, recipe.split, frame.snapshot)
    fitted = {name: _known(registry, name, mark, frame, split) for name, mark in prints.items()}
    if not all(fitted.values()):
        all_tags = {**origin_tags(settings, recipe, frame.snapshot), **tags}
        with track_baselines(registry, frame.snapshot, all_tags) as run:
            for name in [name for name, found in fitted.items() if found is None]:
                try:
                    fitted[name] = _fit(run, name, prints[name], frame, split)
                except Exception as error:  # noqa: BLE001  (an optional model stops nothing)
                    left_out[name] = _failed(name, error)
            if not any(fitted.values()):
                reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
                raise ModelError(f"no baseline could be fitted: {reasons}")
    return BaselineSession({k: v for k, v in fitted.items() if v is not None}, left_out)


def ready_baselines(
    registry: Registry,
    frame: WindowFrame,
    split: Split,
    config: SplitConfig,
    names: Sequence[str] = tuple(BASELINES),
) -> ReadyBaselines:
    """Return baselines of these windows: those that `fit_baselines` has stored, the others fitted.

    None is registered here: what is fitted for one comparison leaves no version behind.

    Parameters
    ----------
    split : Split
        Ranges to fit on, by `config`.
    names : sequence of str
        Of `BASELINES`. One that cannot run on this machine, or fails, is left out.

    Raises
    ------
    InvalidConfig
        For an unknown name.
    """
    left_out = _left_out(names)
    ready: dict[str, Baseline] = {}
    for name, mark in _fingerprints(names, left_out, config, frame.snapshot).items():
        found = _stored(registry, name, mark)
        try:
            ready[name] = BASELINES[name].fit(frame, split) if found is None else found[0]
        except Exception as error:  # noqa: BLE001  (an optional model stops nothing)
            left_out[name] = _failed(name, error)
    return ReadyBaselines(ready, left_out)


def _left_out(names: Sequence[str]) -> dict[str, str]:
    """Return why some of the baselines cannot run here; refuse unknown ones."""
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise InvalidConfig(
            f"baselines {', '.join(unknown)} are unknown: expected some of {', '.join(BASELINES)}"
        )
    return {name: why for name in names if (why := _obstacle(name))}


def _obstacle(name: str) -> str:
    try:
        return BASELINES[name].obstacle()
    except Exception as error:  # noqa: BLE001  (an optional model stops nothing)
        return _failed(name, error)


def _fingerprints(
    names: Sequence[str], left_out: Mapping[str, str], config: SplitConfig, snapshot: str
) -> dict[str, str]:
    """Return the fingerprint of each baseline that can run here."""
    return {
        name: baseline_fingerprint(name, config, snapshot) for name in names if name not in left_out
    }


def _failed(name: str, error: Exception) -> str:
    """Log why a baseline failed, and return it in words."""
    _log.warning("baseline %s failed and is left out", name, exc_info=error)
    return error_line(error)


def _fit(
    run: TrackedBaselines, name: str, fingerprint: str, frame: WindowFrame, split: Split
) -> FittedBaseline:
    begun = time.perf_counter()
    baseline = BASELINES[name].fit(frame, split)
    seconds = time.perf_counter() - begun
    r2 = _r2(baseline, frame, split.validation_N)
    figures = {"validation_r2_against_zero": r2, "seconds": seconds}
    return FittedBaseline(baseline, run.register(baseline, fingerprint, figures), r2, seconds)


def _known(
    registry: Registry, name: str, fingerprint: str, frame: WindowFrame, split: Split
) -> FittedBaseline | None:
    """Return a stored baseline and see to its alias, which a killed run may have left behind."""
    found = _stored(registry, name, fingerprint)
    if found is None:
        return None
    baseline, model = found
    named = registry.named(baseline_name(name))
    try:
        r2 = _r2(baseline, frame, split.validation_N)
        newest = named.at(NEWEST)
        if newest is None or newest.version != model.version:
            named.point(NEWEST, model.version)
    except Exception as error:  # noqa: BLE001  (it is fitted again)
        _log.warning("stored baseline %s cannot be used: %s", name, error_line(error))
        return None
    return FittedBaseline(baseline, model, r2, 0.0)


def _stored(
    registry: Registry, name: str, fingerprint: str
) -> tuple[Baseline, RegisteredModel] | None:
    """Return a baseline of the registry with its version; None where it has none to be read."""
    try:
        model = find_baseline(registry, name, fingerprint)
        return None if model is None else (stored_baseline(model), model)
    except BundleMismatch:  # of an older format
        return None
    except Exception as error:  # noqa: BLE001  (it is fitted again)
        _log.warning("stored baseline %s cannot be read: %s", name, error_line(error))
        return None


def _r2(baseline: Baseline, frame: WindowFrame, index_N: Positions) -> float:
    label_NS = frame.label_NS[index_N].astype(np.float64)
    error_NS = baseline.predict(frame, index_N).value_NS - label_NS
    squares = float(np.nansum(label_NS**2))
    return 1 - float(np.nansum(error_NS**2)) / squares if squares > 0 else float("nan")
