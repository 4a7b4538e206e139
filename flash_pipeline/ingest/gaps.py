"""Runs of candles that a source does not have, and why."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from flash_pipeline.market import Interval, TimeRange


class GapCause(StrEnum):
    """Why a source has no candle."""

    BEFORE_LISTING = "before_listing"
    """The symbol's first candle came later."""
    EXCHANGE_GAP = "exchange_gap"
    """The source has candles around it, or may have them later, but not these."""
    DELISTED = "delisted"
    """The symbol's last candle came earlier, and it trades no more."""
    MARKET_CLOSED = "market_closed"
    """The source does not trade around the clock."""


@dataclass(frozen=True)
class MissingRun:
    """A longest run of candles of one symbol that the source was asked for and does not have."""

    first_start: int
    """Start of the first missing candle, ms since the epoch."""
    last_start: int
    """Start of the last missing candle, ms since the epoch."""
    cause: GapCause
    """Why, as far as that is known."""

    def candles(self, interval: Interval) -> int:
        """Return how many candles are missing."""
        return (self.last_start - self.first_start) // interval.milliseconds + 1


@dataclass(frozen=True)
class Gap(MissingRun):
    """A missing run on record."""

    found_at: int
    """The source's clock when the first of them was missed, ms since the epoch."""
    checked_at: int
    """The source's clock when they were last asked for, ms since the epoch."""
    filled_at: int | None = None
    """The source's clock when they came after all, ms since the epoch; None while missing."""


def explain(
    *, before: bool, after: bool, known: Collection[GapCause], trades_no_more: Callable[[], bool]
) -> GapCause:
    """Say why a source that trades around the clock misses a run of candles.

    Parameters
    ----------
    before, after : bool
        Whether the symbol has any candle before or after the run, stored or seen.
    known : collection of GapCause
        Causes recorded of parts of the run before.
    trades_no_more : callable
        Says whether the symbol is delisted; called only where it decides.
    """
    if before and after:
        return GapCause.EXCHANGE_GAP
    if not before and (after or GapCause.BEFORE_LISTING in known):
        return GapCause.BEFORE_LISTING
    if GapCause.DELISTED in known or trades_no_more():
        return GapCause.DELISTED
    return GapCause.EXCHANGE_GAP if before else GapCause.BEFORE_LISTING


def reconcile(
    recorded: Iterable[Gap],
    missing: Sequence[MissingRun],
    checked: TimeRange,
    interval: Interval,
    now: int,
) -> list[Gap]:
    """Return the gaps of one symbol after a range of it was read.

    A recorded gap within the range that is missing no more is filled; what is still missing keeps
    the time at which it was found, also where a run has grown, shrunk or fallen apart. Outside
    the range gaps stay as they are; neighbours of one cause make one gap.

    Parameters
    ----------
    recorded : iterable of Gap
        Open gaps.
    missing : sequence of MissingRun
        All that is missing within `checked`.
    checked : TimeRange
        Range of starts that the refresh knows about.
    now : int
        The source's clock, ms since the epoch.

    Returns
    -------
    list of Gap
        Open and newly filled gaps by their start, to take the place of `recorded`. The same again
        for the open ones among them, the same missing runs and the same clock.
    """
    step, recorded = interval.milliseconds, list(recorded)
    open_gaps = [
        Gap(run.first_start, run.last_start, run.cause, _found(run, recorded, now), now)
        for run in missing
    ]
    filled: list[Gap] = []
    for gap in recorded:
        outside = _less(gap, [(checked.start, checked.end - step)], step)
        open_gaps += outside
        inside = _less(gap, [(piece.first_start, piece.last_start) for piece in outside], step)
        for piece in inside:
            came = _less(piece, [(run.first_start, run.last_start) for run in missing], step)
            filled += [replace(part, checked_at=now, filled_at=now) for part in came]
    return sorted([*_join(open_gaps, step), *filled], key=lambda gap: gap.first_start)


def _found(run: MissingRun, recorded: Sequence[Gap], now: int) -> int:
    return min(
        (
            gap.found_at
            for gap in recorded
            if gap.first_start <= run.last_start and run.first_start <= gap.last_start
        ),
        default=now,
    )


def _less(gap: Gap, taken: Iterable[tuple[int, int]], step: int) -> list[Gap]:
    """Return what is left of a gap without some runs, each from a first to a last start."""
    left, first = [], gap.first_start
    for taken_first, taken_last in sorted(taken):
        if taken_last < first or taken_first > gap.last_start:
            continue
        if taken_first > first:
            left.append(replace(gap, first_start=first, last_start=taken_first - step))
        first = taken_last + step
    if first <= gap.last_start:
        left.append(replace(gap, first_start=first))
    return left


def _join(gaps: Iterable[Gap], step: int) -> list[Gap]:
    joined: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: gap.first_start):
        last = joined[-1] if joined else None
        if last is not None and (last.last_start + step, last.cause) == (
            gap.first_start,
            gap.cause,
        ):
            joined[-1] = replace(
                last,
                last_start=gap.last_start,
                found_at=min(last.found_at, gap.found_at),
                checked_at=max(last.checked_at, gap.checked_at),
            )
        else:
            joined.append(gap)
    return joined
