"""What a refresh of candles did, in numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flash_pipeline.market import Month


@dataclass(frozen=True)
class MonthSummary:
    """What is stored of one symbol's month after a refresh."""

    symbol: str
    """Instrument."""
    month: Month
    """Calendar month."""
    rows: int
    """Candles stored."""
    expected: int
    """Candles that the grid has up to the source's clock."""


@dataclass(frozen=True)
class KlineRefresh:
    """What a refresh did."""

    source: str
    """Name of the source."""
    now: int
    """The source's clock at its start, ms since the epoch: what was closed by it is stored."""
    synthetic: bool
    """Whether a simulator made the candles."""
    requests: int
    """Windows asked for, the repeated ones included."""
    files_written: int
    """Month files that changed."""
    revisions: int
    """Stored candles that the source has changed since."""
    months: tuple[MonthSummary, ...]
    """One entry per symbol and month, month by month."""
    missing_by_cause: Mapping[str, int]
    """Candles that the source was asked for and does not have, by the cause of the gap."""

    @property
    def rows(self) -> int:
        """Candles stored over all symbols and months of the refresh."""
        return sum(summary.rows for summary in self.months)

    @property
    def span(self) -> tuple[int, int] | None:
        """First and last instant of the months, ms since the epoch; None where nothing closed."""
        if not self.months:
            return None
        first, last = self.months[0].month, self.months[-1].month
        return first.time_range.start, min(last.time_range.end, self.now)

    @property
    def missing(self) -> int:
        """Candles of the grid that are not stored; a clock that went back leaves none too many."""
        return sum(max(0, summary.expected - summary.rows) for summary in self.months)


def combine(refreshes: Sequence[KlineRefresh]) -> KlineRefresh:
    """Return what the refreshes of several sources did together; at least one, of like months.

    The clock is the one that is furthest behind.
    """
    causes: Counter[str] = Counter()
    for each in refreshes:
        causes.update(each.missing_by_cause)
    months = [summary for each in refreshes for summary in each.months]
    return KlineRefresh(
        source=", ".join(each.source for each in refreshes),
        now=min(each.now for each in refreshes),
        synthetic=any(each.synthetic for each in refreshes),
        requests=sum(each.requests for each in refreshes),
        files_written=sum(each.files_written for each in refreshes),
        revisions=sum(each.revisions for each in refreshes),
        months=tuple(sorted(months, key=lambda summary: summary.month)),
        missing_by_cause=dict(causes),
    )
