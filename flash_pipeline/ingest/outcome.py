"""What a refresh of candles did, in numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flash_pipeline.errors import EmptyMonth, UnknownSymbol
from flash_pipeline.market import Month, iso_utc


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
    """The source's clock at its start, ms since the epoch: what was closed by it is stored. Of
    several sources the newest."""
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
    clocks: Mapping[str, int] = field(default_factory=dict)
    """Each source's own clock at its start, ms since the epoch, by the source's name."""
    continuous: bool = True
    """Whether a source trades around the clock."""
    first_starts: Mapping[str, int | None] = field(default_factory=dict)
    """First instant at which the source may have a candle, ms since the epoch, by symbol; None
    where that is not known."""
    forgotten: tuple[str, ...] = ()
    """Symbols that the source does not know, any more: what is stored of them stays."""
    unknown: tuple[str, ...] = ()
    """Those of them of which no candle is stored."""

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

    Each is read at its own time, so what has closed by one clock may not have by another: see
    `KlineRefresh.clocks`.
    """
    causes: Counter[str] = Counter()
    for each in refreshes:
        causes.update(each.missing_by_cause)
    months = [summary for each in refreshes for summary in each.months]
    return KlineRefresh(
        source=", ".join(each.source for each in refreshes),
        now=max(each.now for each in refreshes),
        synthetic=any(each.synthetic for each in refreshes),
        requests=sum(each.requests for each in refreshes),
        files_written=sum(each.files_written for each in refreshes),
        revisions=sum(each.revisions for each in refreshes),
        months=tuple(sorted(months, key=lambda summary: summary.month)),
        missing_by_cause=dict(causes),
        clocks={name: now for each in refreshes for name, now in each.clocks.items()},
        continuous=any(each.continuous for each in refreshes),
        first_starts={s: first for each in refreshes for s, first in each.first_starts.items()},
        forgotten=tuple(symbol for each in refreshes for symbol in each.forgotten),
        unknown=tuple(symbol for each in refreshes for symbol in each.unknown),
    )


def refuse_empty(refresh: KlineRefresh) -> None:
    """Pass symbols that a source knows, and months in which some symbol has a candle.

    A month that is not over may be empty where all markets close: they may not have opened yet.

    Raises
    ------
    UnknownSymbol
        With all symbols that no source knows and of which nothing is stored.
    EmptyMonth
        With the first month in which no symbol of any source has a candle.
    """
    if refresh.unknown:
        raise UnknownSymbol(
            f"{refresh.source} does not list {', '.join(map(repr, refresh.unknown))}, and no "
            "candle of these is stored; the other symbols are refreshed",
            symbol=refresh.unknown[0],
        )
    rows: Counter[Month] = Counter()
    for summary in refresh.months:
        rows[summary.month] += summary.rows
    for month, candles in sorted(rows.items()):
        over = month.time_range.end <= refresh.now
        if candles or not (over or refresh.continuous):
            continue
        firsts = {s.symbol: refresh.first_starts.get(s.symbol) for s in refresh.months}
        known = ", ".join(
            f"{symbol} {'none known' if first is None else iso_utc(first)}"
            for symbol, first in firsts.items()
        )
        raise EmptyMonth(
            f"month {month} is empty: the exchange has no candle of {', '.join(firsts)} in it "
            f"(first candles: {known})"
        )
