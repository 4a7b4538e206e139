"""The exchange's own clock."""

import math
import time
from collections.abc import Callable

from flash_pipeline.errors import InvalidConfig

_NS_PER_MS = 1_000_000


class Clock:
    """A clock that starts at a given instant and ticks on from there, never backwards.

    Parameters
    ----------
    now_ms : int or None
        Instant at which it starts, ms since the epoch, UTC; None for this machine's time.
    speed : float
        Exchange seconds per real second; 0 stops the clock, which makes answers repeatable.
    monotonic_ns : callable
        Source of elapsed time in ns; never set back, unlike a wall clock.

    Raises
    ------
    InvalidConfig
        If the speed is negative or not finite, or the instant lies before 1970.

    Examples
    --------
    >>> Clock(1719788400000, speed=0).now_ms()
    1719788400000
    """

    def __init__(
        self,
        now_ms: int | None = None,
        speed: float = 1.0,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not (math.isfinite(speed) and speed >= 0):
            raise InvalidConfig(f"speed {speed} cannot be used: expected a number of 0 or more")
        if now_ms is not None and now_ms < 0:
            raise InvalidConfig(f"now {now_ms} lies before 1970: expected ms since the epoch")
        self._start_ns = time.time_ns() if now_ms is None else now_ms * _NS_PER_MS
        self._speed = speed
        self._monotonic_ns = monotonic_ns
        self._origin_ns = monotonic_ns()

    def now_ns(self) -> int:
        """Return the instant in ns since the epoch."""
        elapsed = self._monotonic_ns() - self._origin_ns
        # An int keeps its last digits where a float of that size would not.
        return self._start_ns + (elapsed if self._speed == 1.0 else int(elapsed * self._speed))

    def now_ms(self) -> int:
        """Return the instant in ms since the epoch."""
        return self.now_ns() // _NS_PER_MS
