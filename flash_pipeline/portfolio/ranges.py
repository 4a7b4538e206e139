"""Walk-forward ranges over the hours of a panel, whose labels do not cross.

    |== train ==|val|  test 1 |
    |==== train ====|val|  test 2 |

A decision at hour t is made at its close and filled at the open of t + 1; its label ends at the
open of t + 1 + horizon. A decision is purged from a range where its label ends after the next
range's first decision is made: two that only touch share a price, but no return.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.portfolio.panel import MarketPanel


@dataclass(frozen=True)
class WalkConfig:
    """How a history is walked through.

    Raises
    ------
    InvalidConfig
        If a number is out of its bounds.
    """

    folds: int = 2
    """Test ranges of equal length, at least 1."""
    history: float = 0.5
    """Share of the decisions before the first test range, between 0 and 1."""
    validation: float = 0.2
    """Share of a fold's past, its end, that chooses the checkpoint, between 0 and 1."""
    embargo: int = 0
    """Hours left out after the purge, before each next range; 0 or more."""

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise InvalidConfig(f"folds={self.folds}: expected at least 1")
        for name in ("history", "validation"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidConfig(f"{name}={getattr(self, name)}: expected between 0 and 1")
        if self.embargo < 0:
            raise InvalidConfig(f"embargo={self.embargo}: expected 0 or more hours")


@dataclass(frozen=True)
class Fold:
    """One training and what it is tested on; rows of the panel."""

    number: int
    """From 1 on."""
    train: range
    """Decisions that the weights learn from, and the hours that inputs are scaled by."""
    validation: range
    """Decisions that choose the checkpoint."""
    test: range
    """Decisions that neither has seen."""

    def to_dict(self, panel: MarketPanel) -> dict[str, Any]:
        """Return each range in absolute dates (ISO 8601, UTC), fit for JSON."""
        ranges = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "fold": self.number,
            **{
                name: {"from": iso_utc(panel.made_at(r[0])), "to": iso_utc(panel.made_at(r[-1]))}
                for name, r in ranges.items()
            },
        }


def walk_forward(panel: MarketPanel, lookback: int, horizon: int, config: WalkConfig) -> list[Fold]:
    """Return the folds of a panel, oldest first; each learns from all of its past.

    Parameters
    ----------
    panel : MarketPanel
        The hours.
    lookback : int
        Hours of a window, at least 1: a fold must hold one in its training range.
    horizon : int
        Hours that a decision is held, at least 1.
    config : WalkConfig
        How many folds, and of what.

    Raises
    ------
    NotEnoughHistory
        If a range is empty, or the training range is shorter than a window.
    """
    there_T = np.flatnonzero(panel.present_TA.any(axis=1))
    first, end = int(there_T[0]), len(panel.start_time_T) - horizon - 1
    cut = first + int(config.history * (end - first))
    bounds = np.linspace(cut, end, config.folds + 1).astype(int)
    away = horizon + config.embargo
    folds = []
    for number, (start, stop) in enumerate(itertools.pairwise(bounds.tolist()), 1):
        middle = start - int(config.validation * (start - first))
        train = range(first, max(first, middle - away + 1))
        validation = range(middle, max(middle, start - away + 1))
        fold = Fold(number, train, validation, range(start, stop))
        _require(panel, fold, lookback, horizon)
        folds.append(fold)
    return folds


def _require(panel: MarketPanel, fold: Fold, lookback: int, horizon: int) -> None:
    least = {"train": lookback, "validation": 1, "test": horizon}
    for name, needed in least.items():
        found = len(getattr(fold, name))
        if found < needed:
            span = " to ".join(iso_utc(int(panel.start_time_T[i])) for i in (0, -1))
            raise NotEnoughHistory(
                f"fold {fold.number} has {found} hours for {name}, expected at least {needed} "
                f"with windows of {lookback} hours held for {horizon}: the panel has "
                f"{len(panel.start_time_T)} hours, {span}; take a longer history or fewer folds"
            )
