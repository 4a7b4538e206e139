"""When the soak's schedules are due, when it kills, and what its samples say: no process here."""

import random
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

HOURLY_MINUTE = 2
"""Of the schedule `hourly`."""
RETENTION_MINUTE = 3 * 60 + 32
"""Of the day, of the schedule `daily_retention`."""

QUIET_SHARE = 0.3
"""The last part of a soak, without kills: memory has time to grow there."""

_LONG_PAUSES = 0.15  # share of the kills after which several hours pass
_SLACK_BYTES = 32 * 2**20
_SLACK_SHARE = 0.15
_WARM_UP = 0.25  # of a quiet time, in which caches fill


@dataclass(frozen=True)
class Kill:
    """One end of `dagster dev`, and what follows."""

    hour: float
    """Hours of the exchange after the start."""
    kind: str
    """`SIGKILL` of every process of its session, or `SIGINT` as Ctrl-C sends it."""
    down_s: float
    """Seconds until it is started again."""


def plan_kills(hours: float, count: int, seed: int) -> list[Kill]:
    """Return seeded kills in their order: two of three by SIGKILL, none in the first or last hours.

    Every sixth pause or so lasts half a minute or more, which is several hours of the exchange.
    """
    draw = random.Random(seed)
    first, last = min(6.0, hours / 5), hours * (1 - QUIET_SHARE)
    kills = []
    for hour in sorted(draw.uniform(first, last) for _ in range(count)):
        long = draw.random() < _LONG_PAUSES
        down = draw.uniform(30, 60) if long else draw.uniform(1, 6)
        kills.append(Kill(hour, "SIGKILL" if draw.random() < 2 / 3 else "SIGINT", down))
    return kills


def newest_tick(now_ms: int) -> int:
    """Return the newest tick of the hourly schedule at or before an instant, both ms.

    Dagster's daemon runs that one alone after a pause.

    Examples
    --------
    >>> newest_tick(10 * HOUR_MS + 90_000) == 9 * HOUR_MS + 120_000
    True
    """
    offset = HOURLY_MINUTE * 60_000
    return (now_ms - offset) // HOUR_MS * HOUR_MS + offset


def newest_retention(now_ms: int) -> int:
    """Return the newest 03:32 UTC at or before an instant, both ms since the epoch."""
    offset = RETENTION_MINUTE * 60_000
    return (now_ms - offset) // DAY_MS * DAY_MS + offset


_END = re.compile(r"hour +([\d.]+) +(SIGKILL|SIGINT) took .* runs at work \[(.*?)\]")


def ends_of(log: str) -> list[dict[str, float | str | int]]:
    """Return the ends of `dagster dev` that the log of a soak tells of, in their order.

    Examples
    --------
    >>> ends_of("2026-01-01T00:00Z hour    9.5  SIGINT took 6.0 s, runs at work ['ab'], 1 stay")
    [{'hour': 9.5, 'kind': 'SIGINT', 'at_work': 1}]
    """
    return [
        {"hour": float(hour), "kind": kind, "at_work": len(runs.split()) if runs else 0}
        for hour, kind, runs in _END.findall(log)
    ]


@dataclass(frozen=True)
class Sample:
    """What the processes and the home took at a moment."""

    hour: float
    """Hours of the exchange after the start."""
    life: int
    """Starts of `dagster dev` before."""
    memory: Mapping[str, int]
    """Resident bytes by role."""
    disk: Mapping[str, int]
    """Bytes by part of the home."""


@dataclass(frozen=True)
class Growth:
    """What something took early and late in a time, medians in bytes."""

    early: float
    late: float

    @property
    def flat(self) -> bool:
        """Whether it grew by less than 15 % or 32 MiB, whichever is more."""
        return self.late - self.early <= max(_SLACK_BYTES, _SLACK_SHARE * self.early)


def growth(values: Sequence[tuple[float, int]]) -> Growth:
    """Compare the middle of a time with its end, after a warm-up.

    Parameters
    ----------
    values : sequence of (hour, bytes)
        In order of time; of the quarter after the warm-up the median is `early`, of the last
        quarter it is `late`.
    """
    if not values:
        return Growth(0.0, 0.0)
    start, end = values[0][0], values[-1][0]
    span = end - start

    def median(first: float, last: float) -> float:
        bounds = start + first * span, start + last * span
        found = [size for hour, size in values if bounds[0] <= hour <= bounds[1]]
        return float(statistics.median(found)) if found else 0.0

    return Growth(median(_WARM_UP, 2 * _WARM_UP), median(1 - _WARM_UP, 1.0))


def memory_growth(samples: Sequence[Sample]) -> dict[str, Growth]:
    """Return the growth of each lasting role within the last life.

    Runs come and go, so they have no growth; their peak is in the report.
    """
    last = [sample for sample in samples if sample.life == samples[-1].life] if samples else []
    roles = sorted({name for sample in last for name in sample.memory} - {"run or helper"})
    return {
        name: growth([(s.hour, s.memory[name]) for s in last if name in s.memory]) for name in roles
    }


def disk_growth(samples: Sequence[Sample]) -> dict[str, Growth]:
    """Return the growth of each part of the home, and of all, over the whole time."""
    parts = sorted({name for sample in samples for name in sample.disk})
    found = {name: growth([(s.hour, s.disk.get(name, 0)) for s in samples]) for name in parts}
    found["all"] = growth([(s.hour, sum(s.disk.values())) for s in samples])
    return found


def peaks(samples: Iterable[Sample]) -> dict[str, int]:
    """Return the most that each role took, bytes."""
    found: dict[str, int] = {}
    for sample in samples:
        for name, size in sample.memory.items():
            found[name] = max(found.get(name, 0), size)
    return found
