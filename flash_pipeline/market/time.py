"""Instants, half-open ranges and calendar months, all UTC and in milliseconds since the epoch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flash_pipeline.errors import InvalidTimeRange
from flash_pipeline.market.interval import Interval

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


def iso_utc(time_ms: int) -> str:
    """Format an instant for people.

    Examples
    --------
    >>> iso_utc(1719788400000)
    '2024-06-30T23:00Z'
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def compact_utc(time_ms: int) -> str:
    """Format an instant for file names, without a colon.

    Examples
    --------
    >>> compact_utc(1719788400000)
    '20240630T2300Z'
    """
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y%m%dT%H%MZ")


def parse_instant(text: str) -> int:
    """Return the instant of an ISO 8601 text, in ms; a text without a zone is read as UTC.

    Raises
    ------
    InvalidTimeRange
        If it is no ISO 8601 date or time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidTimeRange(
            f"time {text!r} is malformed: expected ISO 8601, such as 2024-06-30T23:30:00Z"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)  # a float would lose milliseconds


@dataclass(frozen=True, order=True)
class TimeRange:
    """A half-open range of time, `start <= t < end`."""

    start: int
    """First instant, ms since the epoch, UTC."""
    end: int
    """First instant after the range, ms since the epoch, UTC."""

    def __post_init__(self) -> None:
        if self.start > self.end:
            raise InvalidTimeRange(f"time range {self.start} to {self.end} ends before it starts")

    def __str__(self) -> str:
        return f"{iso_utc(self.start)} to {iso_utc(self.end)}"

    def __contains__(self, time_ms: int) -> bool:
        return self.start <= time_ms < self.end

    def intersect(self, other: "TimeRange") -> "TimeRange":
        """Return the common part, empty (start == end) where there is none."""
        start = max(self.start, other.start)
        return TimeRange(start, max(start, min(self.end, other.end)))

    def candle_starts(self, interval: Interval) -> range:
        """Return the starts of all candles that open within the range, oldest first."""
        return range(interval.ceil(self.start), self.end, interval.milliseconds)


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month in UTC, written `YYYY-MM`."""

    year: int
    """Calendar year."""
    month: int
    """1 to 12."""

    @classmethod
    def parse(cls, key: str) -> "Month":
        """Return the month of a key such as `2024-06`.

        Raises
        ------
        InvalidTimeRange
            If it is no month.
        """
        match = _MONTH.fullmatch(key) if isinstance(key, str) else None
        if match is None or match[1] == "0000":
            raise InvalidTimeRange(f"month {key!r} is malformed: expected YYYY-MM, such as 2024-06")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def containing(cls, time_ms: int) -> "Month":
        """Return the month of an instant (ms since the epoch)."""
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
        return cls(moment.year, moment.month)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def shift(self, months: int) -> "Month":
        """Return the month that many months later; earlier for a negative number."""
        years, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(years, month + 1)

    @property
    def time_range(self) -> TimeRange:
        """All instants of the month."""
        return TimeRange(_first_instant(self), _first_instant(self.shift(1)))


def month_range(first: Month, last: Month) -> Iterator[Month]:
    """Yield the months from `first` to `last`, both included.

    Raises
    ------
    InvalidTimeRange
        If `last` comes before `first`.
    """
    if last < first:
        raise InvalidTimeRange(f"month range {first} to {last} ends before it starts")
    month = first
    while month <= last:
        yield month
        month = month.shift(1)


def _first_instant(month: Month) -> int:
    return int(datetime(month.year, month.month, 1, tzinfo=UTC).timestamp() * 1000)
