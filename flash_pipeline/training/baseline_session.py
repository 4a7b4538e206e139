"""The baselines fitted on stored windows and registered, repeated only where they must be.

Shape letters: N windows, S symbols.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from flash_pipeline import __version__
from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.settings import Settings
from flash_pipeline.training.baselines import BASELINES, Baseline
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.sources import code_hash
from flash_pipeline.training.tracking.baselines import (
    find_baseline,
    stored_baseline,
    track_baselines,
)
from flash_pipeline.training.tracking.registry import RegisteredModel, Registry
from flash_pipeline.training.tracking.runs import origin_tags
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split, SplitConfig


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
        Of `BASELINES`. One that cannot run on this machine is left out.

    Raises
    ------
    InvalidConfig
        For an unknown name.
    TrackingUnreachable
        If MLflow does not answer; nothing is fitted then.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise InvalidConfig(
            f"baselines {', '.join(unknown)} are unknown: expected some of {', '.join(BASELINES)}"
        )
    left_out = {name: why for name in names if (why := BASELINES[name].obstacle())}
    registry = Registry(settings)
    prints = {
        name: baseline_fingerprint(name, recipe.split, frame.snapshot)
        for name in names
        if name not in left_out
    }
    fitted = {name: _known(registry, name, mark, frame, split) for name, mark in prints.items()}
    if not all(fitted.values()):
        all_tags = {**origin_tags(settings, recipe, frame.snapshot), **tags}
        with track_baselines(registry, frame.snapshot, all_tags) as run:
            for name in [name for name, found in fitted.items() if found is None]:
                begun = time.perf_counter()
                baseline = BASELINES[name].fit(frame, split)
                seconds = time.perf_counter() - begun
                r2 = _r2(baseline, frame, split.validation_N)
                figures = {"validation_r2_against_zero": r2, "seconds": seconds}
                model = run.register(baseline, prints[name], figures)
                fitted[name] = FittedBaseline(baseline, model, r2, seconds)
    return BaselineSession({k: v for k, v in fitted.items() if v is not None}, left_out)


def _known(
    registry: Registry, name: str, fingerprint: str, frame: WindowFrame, split: Split
) -> FittedBaseline | None:
    model = find_baseline(registry, name, fingerprint)
    if model is None:
        return None
    try:
        baseline = stored_baseline(model)
    except BundleMismatch:  # of an older format
        return None
    return FittedBaseline(baseline, model, _r2(baseline, frame, split.validation_N), 0.0)


def _r2(baseline: Baseline, frame: WindowFrame, index_N: Positions) -> float:
    label_NS = frame.label_NS[index_N].astype(np.float64)
    error_NS = baseline.predict(frame, index_N).value_NS - label_NS
    squares = float(np.nansum(label_NS**2))
    return 1 - float(np.nansum(error_NS**2)) / squares if squares > 0 else float("nan")
