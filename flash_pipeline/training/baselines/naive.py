"""Baselines without a fit worth the name: zero, the last value, the mean of the hour of week.

Shape letters: N windows, S symbols, H hours of a week.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from flash_pipeline.training.baselines.base import (
    Baseline,
    Inputs,
    anchor_bars,
    known_log_returns,
)
from flash_pipeline.training.baselines.tabular import sum_of_last
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Positions, Split

_HOUR_MS = 3_600_000
_HOURS = 168


@dataclass(frozen=True)
class Zero(Baseline):
    """Predicts no change: a random walk without drift, which prices nearly are."""

    kind: ClassVar[str] = "zero"

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:  # noqa: ARG003  (nothing to learn)
        """Note the inputs."""
        return cls(Inputs.of(frame))

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        return np.zeros((len(index_N), len(frame.symbols)))


@dataclass(frozen=True)
class LastValue(Baseline):
    """Predicts that the return of the last `horizon` bars comes again.

    Of a window shorter than the horizon all of its bars are taken; an unknown bar counts as 0.
    """

    kind: ClassVar[str] = "last_value"

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:  # noqa: ARG003  (nothing to learn)
        """Note the inputs."""
        return cls(Inputs.of(frame))

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        bars = min(self.inputs.horizon, self.inputs.lookback)
        return sum_of_last(known_log_returns(frame), anchor_bars(frame, index_N), bars)


@dataclass(frozen=True)
class Seasonal(Baseline):
    """Predicts the mean label of the training windows made at the same hour of the week (UTC)."""

    kind: ClassVar[str] = "seasonal"
    timed: ClassVar[bool] = True

    mean_HS: npt.NDArray[np.float64]
    """By hours since Thursday 00:00, on which the epoch falls; 0 where there was none."""

    @classmethod
    def fit(cls, frame: WindowFrame, split: Split) -> Self:
        """Average the training labels by hour of the week; unknown ones are left out."""
        label_NS = frame.label_NS[split.train_N].astype(np.float64)
        known_NS = np.isfinite(label_NS)
        hour_N = _hour_of_week(frame, split.train_N)
        total_HS, count_HS = np.zeros((2, _HOURS, len(frame.symbols)))
        np.add.at(total_HS, hour_N, np.where(known_NS, label_NS, 0.0))
        np.add.at(count_HS, hour_N, known_NS)
        return cls(Inputs.of(frame), total_HS / np.maximum(count_HS, 1))

    def _values(self, frame: WindowFrame, index_N: Positions) -> npt.NDArray[np.floating]:
        return self.mean_HS[_hour_of_week(frame, index_N)]

    def _save(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002  (JSON holds it all)
        return {"mean": self.mean_HS.tolist()}

    @classmethod
    def _load(cls, inputs: Inputs, state: dict[str, Any], folder: Path) -> Self:  # noqa: ARG003
        return cls(inputs, np.asarray(state["mean"]))


def _hour_of_week(frame: WindowFrame, index_N: Positions) -> Positions:
    hours_N: Positions = frame.made_at_N[index_N] // _HOUR_MS % _HOURS
    return hours_N
