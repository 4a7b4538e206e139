"""Chronological splits that no label crosses."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.windows.blocks import WindowFrame


@dataclass(frozen=True)
class SplitConfig:
    """How the labelled windows are divided by time."""

    train: float = 0.70
    """Share of the anchors for training, between 0 and 1."""
    validation: float = 0.15
    """Share for choosing the checkpoint; the rest is the test range."""
    embargo: int = 0
    """Bars left out after the purge, before each next range; 0 or more."""

    def __post_init__(self) -> None:
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            raise InvalidConfig(
                f"split train={self.train} validation={self.validation}: expected shares above 0 "
                "that leave some of 1 for the test range"
            )
        if self.embargo < 0:
            raise InvalidConfig(f"embargo={self.embargo}: expected 0 or more bars")


@dataclass(frozen=True)
class Split:
    """Positions of the windows of each range, ascending in time."""

    train_N: npt.NDArray[np.int64]
    """Windows to learn from; their labels end before the first validation anchor is made."""
    validation_N: npt.NDArray[np.int64]
    """Windows that choose the checkpoint; their labels end before the first test anchor."""
    test_N: npt.NDArray[np.int64]
    """Windows that neither the weights nor the choice of checkpoint has seen."""


def chronological_split(frame: WindowFrame, config: SplitConfig) -> Split:
    """Divide the labelled windows into training, validation and test ranges, oldest first.

    Anchors are purged whose label ends after the next range's first anchor is made (its bar's
    close): otherwise the label would hold prices of that range. (López de Prado 2018, Advances in
    Financial Machine Learning, section 7.4.1.)

    Raises
    ------
    NotEnoughHistory
        If a range would be empty.
    """
    known = np.flatnonzero(frame.known_N)
    bounds = (np.array([config.train, config.train + config.validation]) * len(known)).astype(int)
    parts = np.split(known, bounds)
    embargo_ms = config.embargo * frame.interval.milliseconds
    for i in (0, 1):
        if len(parts[i + 1]):
            limit = frame.made_at_N[parts[i + 1][0]] - embargo_ms
            parts[i] = parts[i][frame.label_end_N[parts[i]] <= limit]
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not len(part):
            span = f"{iso_utc(int(frame.anchor_N[0]))} to {iso_utc(int(frame.anchor_N[-1]))}"
            raise NotEnoughHistory(
                f"the {name} range is empty: {len(known)} labelled windows from {span} "
                f"with a horizon of {frame.horizon} bars"
            )
    return Split(*parts)
