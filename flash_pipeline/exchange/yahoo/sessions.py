"""When a market trades: always, or in the regular hours of New York."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

_SATURDAY = 5
_CLOSED_DATES = frozenset({(1, 1), (6, 19), (7, 4), (12, 25)})  # month and day, where on weekdays


@dataclass(frozen=True)
class Session:
    """A time of trading."""

    start: int
    """First instant, ms since the epoch, UTC."""
    end: int
    """First instant after it, ms since the epoch, UTC."""


class Hours(Protocol):
    """The trading hours of a market."""

    zone: ZoneInfo

    def session(self, day: date) -> Session | None:
        """Return the session of a local date; None where it is closed all day."""
        ...


class RoundTheClock:
    """A market that never closes: a session is a day in UTC."""

    zone = ZoneInfo("UTC")

    def session(self, day: date) -> Session:
        """Return the day from midnight to midnight."""
        return Session(_ms(day, time(), self.zone), _ms(day + timedelta(days=1), time(), self.zone))


class NewYork:
    """The regular hours of the exchanges of New York: 9:30 to 16:00 on weekdays.

    A simplification: of the holidays only those of a fixed date are kept, and none is moved to
    the weekday beside it; no day ends early.
    """

    zone = ZoneInfo("America/New_York")

    def session(self, day: date) -> Session | None:
        """Return the day's regular hours: 13:30 to 20:00 UTC in summer, an hour later in winter."""
        if day.weekday() >= _SATURDAY or (day.month, day.day) in _CLOSED_DATES:
            return None
        return Session(_ms(day, time(9, 30), self.zone), _ms(day, time(16), self.zone))


def sessions_between(hours: Hours, first: int, end: int) -> Iterator[Session]:
    """Yield the sessions that have an instant in `first <= t < end` (ms), oldest first."""
    day, last = local_date(hours, first), local_date(hours, end)
    while day <= last:
        session = hours.session(day)
        if session is not None and session.start < end and first < session.end:
            yield session
        day += timedelta(days=1)


def newest_session(hours: Hours, now: int) -> Session:
    """Return the session under way, or the one before."""
    day = local_date(hours, now)
    while (session := hours.session(day)) is None or session.start > now:
        day -= timedelta(days=1)
    return session


def local_date(hours: Hours, at: int) -> date:
    """Return the date where the market is, at an instant in ms since the epoch."""
    return datetime.fromtimestamp(at / 1000, hours.zone).date()


def offset_s(hours: Hours, at: int) -> int:
    """Return the seconds by which local time is ahead of UTC at an instant."""
    offset = datetime.fromtimestamp(at / 1000, hours.zone).utcoffset()
    assert offset is not None, "a zone without an offset"
    return round(offset.total_seconds())


def zone_name(hours: Hours, at: int) -> str:
    """Return the short name of the local time at an instant, such as EDT."""
    return datetime.fromtimestamp(at / 1000, hours.zone).strftime("%Z")


def _ms(day: date, at: time, zone: ZoneInfo) -> int:
    moment = datetime.combine(day, at, zone).astimezone(UTC)
    return round(moment.timestamp() * 1000)
