"""Walk-forward folds: each is trained on the past of its test range alone.

    expanding   |== train ==|val|  test 1 |
                |==== train ====|val|  test 2 |
    rolling     |== train ==|val|  test 1 |
                    |== train ==|val|  test 2 |

Purged and embargoed like any split (see `split.purged`); the test ranges lie end to end.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split, purged

Growth = Literal["expanding", "rolling"]


@dataclass(frozen=True)
class WalkForwardConfig:
    """How a history is walked through."""

    folds: int = 5
    """Test ranges, of equal length, at least 1."""
    history: float = 0.5
    """Share of the labelled windows before the first test range, between 0 and 1."""
    growth: Growth = "expanding"
    """Whether a fold learns from all of its past, or from as much as the first fold has."""
    validation: float = 0.15
    """Share of a fold's past, its end, that chooses the checkpoint, between 0 and 1."""
    embargo: int = 0
    """Bars left out after the purge, before each next range; 0 or more."""

    def __post_init__(self) -> None:
        if self.folds < 1:
            raise InvalidConfig(f"folds={self.folds}: expected at least 1")
        require_shares(history=self.history, validation=self.validation)
        if self.growth not in get_args(Growth):
            raise InvalidConfig(f"growth={self.growth!r}: expected one of {get_args(Growth)}")
        require_bars(embargo=self.embargo)


@dataclass(frozen=True)
class Fold:
    """One training and what it is tested on."""

    number: int
    """From 1 on, in the order of the test ranges."""
    split: Split
    """Its windows."""
    groups: tuple[int, ...] = ()
    """Of purged folds the groups tested, from 0 on; empty for a walk-forward."""

    def to_dict(self, frame: WindowFrame) -> dict[str, Any]:
        """Return number, groups, the data's snapshot and the ranges in absolute dates."""
        return {
            "fold": self.number,
            "groups": list(self.groups),
            "snapshot": frame.snapshot,
            **self.split.to_dict(frame),
        }


def walk_forward(frame: WindowFrame, config: WalkForwardConfig) -> list[Fold]:
    """Divide the labelled windows into folds, oldest first.

    Every labelled window after the first `history` of them is tested in exactly one fold.

    Raises
    ------
    NotEnoughHistory
        If a fold is too short: see `require_long_enough`.
    """
    known = np.flatnonzero(frame.known_N)
    first = int(config.history * len(known))
    bounds = np.linspace(first, len(known), config.folds + 1).astype(int)
    folds = []
    for number, (start, end) in enumerate(itertools.pairwise(bounds), 1):
        past = known[0 if config.growth == "expanding" else start - first : start]
        cut = len(past) - int(config.validation * len(past))
        test_N = known[start:end]
        validation_N = purged(frame, past[cut:], test_N, before=config.embargo)
        train_N = purged(frame, past[:cut], past[cut:], before=config.embargo)
        fold = Fold(number, Split(train_N, validation_N, test_N))
        require_long_enough(frame, fold)
        folds.append(fold)
    return folds


def require_long_enough(frame: WindowFrame, fold: Fold) -> None:
    """Refuse a fold that has nothing to learn from or to be tested on.

    Fewer windows than the horizon are less than one observation: their labels all overlap.

    Raises
    ------
    NotEnoughHistory
        If the test or the training range has fewer windows than the horizon has bars, or the
        validation range none; with the fold's number and the dates.
    """
    split = fold.split
    least = {
        "test": (split.test_N, frame.horizon),
        "training": (split.train_N, frame.horizon),
        "validation": (split.validation_N, 1),
    }
    for name, (part_N, needed) in least.items():
        if len(part_N) < needed:
            raise NotEnoughHistory(
                f"fold {fold.number} has {len(part_N)} {name} windows{_span(frame, part_N)}, "
                f"expected at least {needed} with a horizon of {frame.horizon} bars: "
                "take fewer folds or a longer history"
            )


def require_shares(**values: float) -> None:
    """Refuse shares that are not between 0 and 1, by name."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise InvalidConfig(f"{name}={value}: expected a share between 0 and 1")


def require_bars(**values: int) -> None:
    """Refuse negative numbers of bars, by name."""
    for name, value in values.items():
        if value < 0:
            raise InvalidConfig(f"{name}={value}: expected 0 or more bars")


def _span(frame: WindowFrame, part_N: Positions) -> str:
    if not len(part_N):
        return ""
    first, last = (iso_utc(int(frame.made_at_N[part_N[i]])) for i in (0, -1))
    return f" ({first} to {last})"
