"""Where the mid price goes: down, flat or up, at several horizons."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.order_book.snapshots import BookSeries

DOWN, FLAT, UP, UNKNOWN = 0, 1, 2, -1
"""Classes of a label."""

LATE = 1.5
"""Cadences between two snapshots from which on one is missing."""


def segment_starts(time_T: npt.NDArray[np.int64], cadence_ms: int) -> npt.NDArray[np.int64]:
    """Return the first snapshot of the unbroken run that each snapshot belongs to, [T]."""
    broken = np.append(True, np.diff(time_T) > LATE * cadence_ms)[: len(time_T)]
    return np.maximum.accumulate(np.where(broken, np.arange(len(time_T)), 0))


def forward_moves(
    series: BookSeries, horizons: Sequence[int], cadence_ms: int
) -> npt.NDArray[np.float64]:
    """Return the move of the mid price over each horizon, in basis points of it, [T, H].

    Parameters
    ----------
    horizons : sequence of int
        Snapshots ahead, at least 1 each.
    cadence_ms : int
        Milliseconds between two snapshots.

    Returns
    -------
    array [T, H]
        (mid[t + h] / mid[t] - 1) * 10,000; NaN where a snapshot between the two is missing.
    """
    starts = segment_starts(series.time_T, cadence_ms)
    move_TH = np.full((len(series), len(horizons)), np.nan)
    for i, horizon in enumerate(horizons):
        if horizon < 1:
            raise InvalidConfig(f"horizon {horizon} of a label: expected 1 snapshot or more")
        if horizon < len(series):
            unbroken = starts[horizon:] == starts[:-horizon]
            move = (series.mid_T[horizon:] / series.mid_T[:-horizon] - 1) * 1e4
            move_TH[:-horizon, i] = np.where(unbroken, move, np.nan)
    return move_TH


def classify(
    move_TH: npt.NDArray[np.float64], threshold_bp: Sequence[float]
) -> npt.NDArray[np.int64]:
    """Return `UP` where a move is above its horizon's threshold, `DOWN` where below minus that.

    Parameters
    ----------
    move_TH : array [T, H]
        Basis points; NaN is `UNKNOWN`.
    threshold_bp : sequence of float
        One for each horizon, basis points, 0 or more: moves up to it are `FLAT`.
    """
    limit_H = np.asarray(threshold_bp, np.float64)
    if limit_H.shape != move_TH.shape[1:] or not (limit_H >= 0).all():
        raise InvalidConfig(
            f"thresholds {list(threshold_bp)} for {move_TH.shape[1]} horizons: expected one each, "
            "0 bp or more"
        )
    label_TH = np.full(move_TH.shape, FLAT, np.int64)
    label_TH[move_TH > limit_H] = UP
    label_TH[move_TH < -limit_H] = DOWN
    label_TH[np.isnan(move_TH)] = UNKNOWN
    return label_TH


def balanced_thresholds(move_TH: npt.NDArray[np.float64], flat: float = 1 / 3) -> tuple[float, ...]:
    """Return the thresholds, in basis points, that leave a share of the moves flat.

    Mid prices move in half ticks, so the share is met as nearly as these allow, and a threshold
    lies in the middle between two sizes of a move. On one of them the class of that size would
    depend on the price level alone: half a tick is fewer basis points of a higher price.

    Parameters
    ----------
    move_TH : array [T, H]
        Of training snapshots alone: the test range's moves must not set it. NaN does not count.
    flat : float
        Share, 0 to 1.
    """
    return tuple(_threshold(np.abs(move_T[~np.isnan(move_T)]), flat) for move_T in move_TH.T)


def _threshold(size_T: npt.NDArray[np.float64], flat: float) -> float:
    moved_T = size_T[size_T > _STILL_BP]
    if not len(moved_T):
        return 0.0
    step = float(moved_T.min())
    nearest = np.floor(np.quantile(size_T, flat) / step)
    limits = [(nearest + k + 0.5) * step for k in (-1, 0, 1) if nearest + k >= 0]
    return float(min(limits, key=lambda limit: abs((size_T <= limit).mean() - flat)))


_STILL_BP = 1e-7  # a move of less is the rounding of a ratio
