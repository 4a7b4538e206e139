"""Purged k-fold and combinatorial purged folds: training on both sides of what is tested.

    groups      |  0  |  1  |  2  |  3  |        tested = 1: purged k-fold
    fold 2      |=====| test |--===|=====|        - purged and embargoed
    fold ...    |=====|  ... tested = 2: every pair of groups is tested once, 6 folds, 3 paths

Such folds reuse a short history more than a walk-forward does, at the price that a model may be
trained on what came after its test: they measure, they do not simulate. (López de Prado 2018,
Advances in Financial Machine Learning, chapters 7 and 12.)
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.folds import Fold, require_bars, require_long_enough, require_shares
from flash_pipeline.windows.split import Split, purged


@dataclass(frozen=True)
class PurgedConfig:
    """How a history is divided into groups, and how many of them a fold tests."""

    groups: int = 5
    """Groups of consecutive windows, of equal length, at least 2."""
    tested: int = 1
    """Groups tested by a fold, at least 1, fewer than `groups`: 1 is a purged k-fold, more are
    combinatorial folds."""
    validation: float = 0.15
    """Share of a fold's training windows, the newest, that chooses the checkpoint."""
    embargo: int = 0
    """Bars left out after each test range, beyond the purge; 0 or more."""
    reach: int = 0
    """Bars before its anchor that a training window teaches as well: see `split.purged`."""

    def __post_init__(self) -> None:
        if self.groups < 2:
            raise InvalidConfig(f"groups={self.groups}: expected at least 2")
        if not 1 <= self.tested < self.groups:
            raise InvalidConfig(f"tested={self.tested}: expected 1 to {self.groups - 1} groups")
        require_shares(validation=self.validation)
        require_bars(embargo=self.embargo, reach=self.reach)


def purged_folds(frame: WindowFrame, config: PurgedConfig) -> list[Fold]:
    """Divide the labelled windows into folds, one for each choice of the tested groups.

    Every labelled window is tested in C(groups - 1, tested - 1) folds: once in a k-fold.

    Raises
    ------
    NotEnoughHistory
        If a fold is too short: see `folds.require_long_enough`.
    """
    known = np.flatnonzero(frame.known_N)
    groups = np.array_split(known, config.groups)
    folds = []
    for number, chosen in enumerate(_choices(config), 1):
        test_N = np.concatenate([groups[g] for g in chosen])
        fold = Fold(number, _around(frame, known, test_N, config), chosen)
        require_long_enough(frame, fold)
        folds.append(fold)
    return folds


def backtest_paths(config: PurgedConfig) -> npt.NDArray[np.int64]:
    """Return the number of the fold that predicts each group, for each path through the history.

    A path takes every group from one fold that tests it, so that the predictions of a path cover
    the whole history once. (López de Prado 2018, section 12.4.1.)

    Returns
    -------
    array [paths, groups]
        Fold numbers as `purged_folds` gives them; paths = C(groups - 1, tested - 1).
    """
    paths_PG = np.empty(
        (math.comb(config.groups - 1, config.tested - 1), config.groups), dtype=np.int64
    )
    for group in range(config.groups):
        paths_PG[:, group] = [n for n, c in enumerate(_choices(config), 1) if group in c]
    return paths_PG


def _choices(config: PurgedConfig) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(config.groups), config.tested))


def _around(
    frame: WindowFrame,
    known_N: npt.NDArray[np.int64],
    test_N: npt.NDArray[np.int64],
    config: PurgedConfig,
) -> Split:
    """Return the split of a test range and what is left on both of its sides."""
    rest_N = known_N[~np.isin(known_N, test_N)]
    rest_N = purged(frame, rest_N, test_N, after=config.embargo, reach=config.reach)
    cut = len(rest_N) - int(config.validation * len(rest_N))
    validation_N = rest_N[cut:]
    train_N = purged(frame, rest_N[:cut], validation_N, after=config.embargo, reach=config.reach)
    return Split(train_N, validation_N, test_N)
