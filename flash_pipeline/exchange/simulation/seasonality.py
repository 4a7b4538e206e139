"""The rhythm of the day and the week, in volatility and in volume.

Volatility and volume of crypto markets peak while Europe and the United States both trade, around
15:00 UTC, and fall at weekends (Eross, McGroarty, Urquhart and Wolfe, "The intraday dynamics of
bitcoin", Research in International Business and Finance, 2019).
"""

import numpy as np

from flash_pipeline.exchange.simulation.chunks import CHUNK_HOURS, HOUR_MS, Floats, chunk_start

WEEK_HOURS = 168
_EPOCH_HOUR_OF_WEEK = 72  # 1970-01-01 was a Thursday; Monday 00:00 is hour 0


def _weekly_profile(peak: float, weekend: float) -> Floats:
    hour = np.arange(WEEK_HOURS)
    day = 1 + peak * np.cos(2 * np.pi * (hour % 24 - 15) / 24)
    profile = day * np.where(hour >= 5 * 24, weekend, 1.0)
    return np.asarray(profile / np.sqrt(np.mean(profile**2)))


VOLATILITY_PROFILE = _weekly_profile(peak=0.3, weekend=0.7)
"""Factor on the standard deviation by hour of the week, Monday first; mean square 1."""

VOLUME_PROFILE = _weekly_profile(peak=0.25, weekend=0.75)
"""Factor on the volume by hour of the week, on top of what follows from the volatility."""


def hours_of_week(chunk: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the hour of the week, 0 for Monday 00:00 UTC, of each hour of a chunk."""
    first = chunk_start(chunk) // HOUR_MS + _EPOCH_HOUR_OF_WEEK
    return np.arange(first, first + CHUNK_HOURS) % WEEK_HOURS
