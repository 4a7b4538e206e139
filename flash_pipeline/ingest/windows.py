"""Which candles are to be read, and in which windows."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flash_pipeline.market import Interval, TimeRange

REREAD_CANDLES = 3
"""Newest closed candles read again on each refresh, since exchanges revise them at times."""

Starts: TypeAlias = npt.NDArray[np.int64]
"""Candle starts [candles], ms since the epoch: sorted, unique and on the grid where not said."""


def starts_to_read(
    stored: npt.NDArray[Any], closed: TimeRange, interval: Interval, closed_end: int
) -> Starts:
    """Return the starts that the store lacks, and those of the newest candles.

    Parameters
    ----------
    stored : int64 array [candles]
        Starts of the candles at hand, in any order; some may lie outside `closed`.
    closed : TimeRange
        Range in which candles are wanted.
    closed_end : int
        First instant that is not closed yet, ms since the epoch; the newest three candles
        before it are read again.
    """
    grid = closed.candle_starts(interval)
    wanted = np.ones(len(grid), dtype=bool)
    if not len(grid):
        return np.empty(0, dtype=np.int64)
    held = stored[
        (stored >= grid[0]) & (stored <= grid[-1]) & (stored % interval.milliseconds == 0)
    ]
    wanted[(held - grid[0]) // interval.milliseconds] = False
    # After a pause the newest stored candles are older than the newest closed ones: both count.
    after_stored = int(stored.max()) + interval.milliseconds if len(stored) else closed_end
    reread_from = min(closed_end, after_stored) if closed.end == closed_end else closed_end
    reread_from -= REREAD_CANDLES * interval.milliseconds
    wanted[max(0, (reread_from - grid[0]) // interval.milliseconds) :] = True
    return grid[0] + np.flatnonzero(wanted) * np.int64(interval.milliseconds)


def pack_windows(starts: Starts, interval: Interval, most_candles: int) -> list[TimeRange]:
    """Return the fewest windows that cover all starts.

    Parameters
    ----------
    most_candles : int
        Candle starts in one window at most, wanted or not.
    """
    windows: list[TimeRange] = []
    first = 0
    while first < len(starts):
        start = int(starts[first])
        beyond = int(np.searchsorted(starts, start + most_candles * interval.milliseconds))
        windows.append(TimeRange(start, int(starts[beyond - 1]) + interval.milliseconds))
        first = beyond
    return windows


def runs(starts: Starts, interval: Interval) -> list[tuple[int, int]]:
    """Return the first and last start of each longest run of neighbours.

    Examples
    --------
    >>> hour = Interval.HOUR_1.milliseconds
    >>> runs(np.array([2, 3, 7]) * hour, Interval.HOUR_1) == [(2 * hour, 3 * hour), (7 * hour,) * 2]
    True
    """
    if not len(starts):
        return []
    breaks = np.flatnonzero(np.diff(starts) != interval.milliseconds)
    firsts = starts[np.concatenate([[0], breaks + 1])]
    lasts = starts[np.concatenate([breaks, [len(starts) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
