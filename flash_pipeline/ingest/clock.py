"""What has closed, by a source's clock that may jump."""

from threading import Lock

from flash_pipeline.market import Interval, MarketSource


class SourceClock:
    """The source's clock as a refresh read it, checked against every answer.

    A candle counts as closed when both the answer that holds it and the readings of the clock say
    so: the earliest of them decides. An answer that disagrees with the last reading by an interval
    or more has the clock read once more: a first reading that was ahead is put right so, and one
    that was behind is found out, see `moved_on`.

    Parameters
    ----------
    source : MarketSource
        Its clock is read at once.
    interval : Interval
        Length of the candles.
    """

    def __init__(self, source: MarketSource, interval: Interval) -> None:
        self._source, self._interval, self._lock = source, interval, Lock()
        self._newest = source.now()
        self._earliest = self._latest = self._newest

    @property
    def now(self) -> int:
        """The earliest reading, ms since the epoch: what is closed by it is closed."""
        return self._earliest

    @property
    def closed_end(self) -> int:
        """First instant that is not closed by `now`, ms since the epoch."""
        return self._interval.floor(self._earliest)

    @property
    def open_from(self) -> int:
        """First instant that is not closed by any reading or answer, ms since the epoch.

        A stored candle from here on was stored while it formed.
        """
        return self._interval.floor(self._latest)

    @property
    def moved_on(self) -> bool:
        """Whether an interval or more has passed since `now`, by the newest reading."""
        return self._newest - self._earliest >= self._interval.milliseconds

    def closed_by(self, as_of: int) -> int:
        """Return the first instant that is not closed by an answer and by the clock.

        Parameters
        ----------
        as_of : int
            The clock of the answer, ms since the epoch.
        """
        with self._lock:
            self._latest = max(self._latest, as_of)
            if abs(as_of - self._newest) >= self._interval.milliseconds:
                self._newest = self._source.now()
                self._earliest = min(self._earliest, self._newest)
                self._latest = max(self._latest, self._newest)
            return self._interval.floor(min(as_of, self._earliest))
