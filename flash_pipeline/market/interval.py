"""Candle intervals of fixed length."""

from enum import Enum

from flash_pipeline.errors import InvalidInterval

MINUTE_MS = 60_000
"""Milliseconds in a minute."""


class Interval(Enum):
    """A candle interval, named by the exchange's own code.

    `W` and `M` are left out: their length varies, so neither a grid of expected candles nor an
    annualisation factor exists for them.
    """

    MIN_1 = "1"
    MIN_3 = "3"
    MIN_5 = "5"
    MIN_15 = "15"
    MIN_30 = "30"
    HOUR_1 = "60"
    HOUR_2 = "120"
    HOUR_4 = "240"
    HOUR_6 = "360"
    HOUR_12 = "720"
    DAY_1 = "D"

    @classmethod
    def parse(cls, code: str) -> "Interval":
        """Return the interval of a code such as `"60"`.

        Raises
        ------
        InvalidInterval
            For any other code, `W` and `M` included.

        Examples
        --------
        >>> Interval.parse("60").milliseconds
        3600000
        """
        try:
            return cls(code)
        except ValueError:
            codes = " ".join(interval.value for interval in cls)
            raise InvalidInterval(
                f"interval {code!r} is unknown: expected one of {codes}"
            ) from None

    @property
    def minutes(self) -> int:
        """Length in minutes."""
        return 24 * 60 if self is Interval.DAY_1 else int(self.value)

    @property
    def milliseconds(self) -> int:
        """Length in milliseconds."""
        return self.minutes * MINUTE_MS

    @property
    def bars_per_year(self) -> float:
        """Bars in 365 days: 8,760 for an hour. Crypto trades around the clock."""
        return 365 * 24 * 60 / self.minutes

    def floor(self, time_ms: int) -> int:
        """Return the start of the candle that contains `time_ms` (ms since the epoch)."""
        return time_ms - time_ms % self.milliseconds

    def ceil(self, time_ms: int) -> int:
        """Return the first candle start at or after `time_ms` (ms since the epoch)."""
        return -(-time_ms // self.milliseconds) * self.milliseconds
