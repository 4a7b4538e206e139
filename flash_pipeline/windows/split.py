"""Chronological splits that no label crosses.

Shape letters: N windows, M windows of another range, T bars of the panel.

A label is the return from a window's `made_at`, the close of its last bar, to its `label_end`: the
interval (made_at, label_end]. Two that only touch share a price, but no return.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.windows.blocks import WindowFrame

Positions = npt.NDArray[np.int64]


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

    train_N: Positions
    """Windows to learn from; no label of theirs meets one of the other two ranges."""
    validation_N: Positions
    """Windows that choose the checkpoint; no label of theirs meets one of the test range."""
    test_N: Positions
    """Windows that neither the weights nor the choice of checkpoint has seen."""

    def fitting_bars(self, frame: WindowFrame) -> npt.NDArray[np.bool_]:
        """Return the bars [T] that scalers may be fitted on.

        All up to the last training anchor but the anchors of the other two ranges, which lie
        before it in a k-fold.
        """
        anchor_T = np.arange(len(frame.start_time_T)) - (frame.lookback - 1)
        seen_T: npt.NDArray[np.bool_] = anchor_T <= self.train_N[-1]
        return seen_T & ~np.isin(anchor_T, np.concatenate([self.validation_N, self.test_N]))

    def to_dict(self, frame: WindowFrame) -> dict[str, Any]:
        """Return each range in absolute dates (ISO 8601, UTC), fit for JSON.

        Of each range its `windows`, when the first and the last prediction is made, `from` and
        `to`, and when the last label ends, `labels_to`.
        """
        ranges = {"train": self.train_N, "validation": self.validation_N, "test": self.test_N}
        return {
            name: {
                "windows": len(part_N),
                "from": iso_utc(int(frame.made_at_N[part_N[0]])),
                "to": iso_utc(int(frame.made_at_N[part_N[-1]])),
                "labels_to": iso_utc(int(frame.label_end_N[part_N[-1]])),
            }
            for name, part_N in ranges.items()
        }


def purged(
    frame: WindowFrame,
    kept_N: Positions,
    away_M: Positions,
    *,
    before: int = 0,
    after: int = 0,
    reach: int = 0,
) -> Positions:
    """Return the windows whose label interval meets none of some other windows'.

    (López de Prado 2018, Advances in Financial Machine Learning, sections 7.4.1 and 7.4.2.)

    Parameters
    ----------
    kept_N : array
        Positions of windows, in any order, which stays.
    away_M : array
        Positions to keep away from, ascending; they need not be consecutive.
    before, after : int
        Embargo: bars by which the other windows' intervals are widened to either side. What
        follows a test range closely still tells of it, since features and returns are serially
        dependent.
    reach : int
        Bars before its anchor that a kept window teaches as well: lookback - 1 under dense
        supervision, whose windows hold the labels of every bar of theirs; else 0.
    """
    if not len(away_M):
        return kept_N
    bar_ms = frame.interval.milliseconds
    from_M = frame.made_at_N[away_M] - before * bar_ms
    until_M = frame.label_end_N[away_M] + after * bar_ms
    begun_N = np.searchsorted(from_M, frame.label_end_N[kept_N], side="left")
    # Both ends ascend: of the intervals that have begun, the last one reaches farthest.
    farthest_N = until_M[np.maximum(begun_N, 1) - 1]
    meets_N = (begun_N > 0) & (frame.made_at_N[kept_N] - reach * bar_ms < farthest_N)
    apart_N: Positions = kept_N[~meets_N]
    return apart_N


def chronological_split(frame: WindowFrame, config: SplitConfig) -> Split:
    """Divide the labelled windows into training, validation and test ranges, oldest first.

    Anchors are purged whose label ends after the next range's first anchor is made (its bar's
    close): otherwise the label would hold prices of that range. See `purged`.

    Raises
    ------
    NotEnoughHistory
        If a range would be empty.
    """
    known = np.flatnonzero(frame.known_N)
    bounds = (np.array([config.train, config.train + config.validation]) * len(known)).astype(int)
    parts = np.split(known, bounds)
    for i in (0, 1):
        parts[i] = purged(frame, parts[i], parts[i + 1], before=config.embargo)
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        if not len(part):
            span = f"{iso_utc(int(frame.anchor_N[0]))} to {iso_utc(int(frame.anchor_N[-1]))}"
            raise NotEnoughHistory(
                f"the {name} range is empty: {len(known)} labelled windows from {span} "
                f"with a horizon of {frame.horizon} bars"
            )
    return Split(*parts)
