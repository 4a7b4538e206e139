"""How many requests may be sent in how short a time, over all threads."""

import threading
import time
from collections import deque
from collections.abc import Callable

_LEAST_SLEEP_S = 0.001  # a shorter one may round to none and spin
_NEVER = float("-inf")


class RequestBudget:
    """At most so many requests within any window of so many seconds, and pauses on demand.

    Parameters
    ----------
    most : int or None
        Requests granted in any window; None grants all and keeps to the pauses alone. By default
        100 less than the 600 that Bybit documents: requests that leave late because a connection
        is slow, and those of another process at the same address, count as well.
    per_s : float
        Length of a window, seconds.
    monotonic, sleep : callable
        The clock that the windows are measured by, seconds, and what waits.
    """

    def __init__(
        self,
        most: int | None = 500,
        per_s: float = 5.0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._most = most
        self._per_s = per_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._granted: deque[float] = deque()
        self._paused_until = _NEVER

    def acquire(self) -> None:
        """Wait until a request may be sent, and count it.

        A pause that was slept through is over, whatever the clock says: with a `sleep` that takes
        no time this would spin otherwise.
        """
        wait, sat_out = self._try_acquire(_NEVER)
        while wait > 0:
            self._sleep(max(wait, _LEAST_SLEEP_S))
            wait, sat_out = self._try_acquire(sat_out)

    def pause_for(self, seconds: float) -> None:
        """Grant nothing for a while, to any thread; a longer pause under way goes on."""
        if seconds > 0:
            with self._lock:
                self._paused_until = max(self._paused_until, self._monotonic() + seconds)

    def _try_acquire(self, sat_out: float) -> tuple[float, float]:
        """Count a request, or say after how many seconds to ask again.

        Parameters
        ----------
        sat_out : float
            End of the pause that the caller has slept through, by the clock.

        Returns
        -------
        wait : float
            Seconds, 0 where the request was counted.
        sat_out : float
            End of the pause that the caller will have slept through after these.
        """
        with self._lock:
            now = self._monotonic()
            if now < self._paused_until and sat_out < self._paused_until:
                return self._paused_until - now, self._paused_until
            if self._most is None:
                return 0.0, sat_out
            while self._granted and self._granted[0] + self._per_s <= now:
                self._granted.popleft()
            if len(self._granted) < self._most:
                self._granted.append(now)
                return 0.0, sat_out
            return max(self._granted[0] + self._per_s - now, _LEAST_SLEEP_S), sat_out
