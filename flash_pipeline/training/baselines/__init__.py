"""Baselines: simple forecasters in the same harness, on the same windows, as the transformer."""

from pathlib import Path

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.training.baselines.base import Baseline, Forecaster, Inputs, describe
from flash_pipeline.training.baselines.boosting import Boosting
from flash_pipeline.training.baselines.dlinear import DLinear
from flash_pipeline.training.baselines.naive import LastValue, Seasonal, Zero
from flash_pipeline.training.baselines.ridge import Ridge

BASELINES: dict[str, type[Baseline]] = {
    kind.kind: kind for kind in (Zero, LastValue, Seasonal, Ridge, Boosting, DLinear)
}
"""Baselines by name, simplest first."""


def load_baseline(folder: Path) -> Baseline:
    """Return the baseline stored in a folder, of whatever kind.

    Raises
    ------
    BundleMismatch
        If there is none, or one of a kind that this version does not know.
    """
    kind = describe(folder).get("kind")
    if kind not in BASELINES:
        raise BundleMismatch(
            f"{folder} holds a baseline of kind {kind!r}: expected one of {', '.join(BASELINES)}"
        )
    return BASELINES[kind].load(folder)


__all__ = [
    "BASELINES",
    "Baseline",
    "Boosting",
    "DLinear",
    "Forecaster",
    "Inputs",
    "LastValue",
    "Ridge",
    "Seasonal",
    "Zero",
    "load_baseline",
]
