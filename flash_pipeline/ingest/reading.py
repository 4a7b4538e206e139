"""Reads one symbol's candles from a source until each is there or known to be missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.ingest.clock import SourceClock
from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.ingest.merge import starts_of
from flash_pipeline.ingest.rules import Broken, row_rules
from flash_pipeline.ingest.windows import Starts, pack_windows
from flash_pipeline.market import Interval, MarketSource, TimeRange

ASK_AGAIN = 2
"""Further times that a candle is asked for before it counts as missing."""

_ASK_CLOSED_AGAIN = 1
"""The same where markets close: a candle of a closed hour comes in no answer, and they are many."""

_FEW = 24
"""Candles of an answer that may all break a rule without a verdict on the answer."""


@dataclass(frozen=True)
class WindowAnswer:
    """What came of a window."""

    window: TimeRange
    """What was asked for."""
    closed_end: int
    """First instant that was not closed by the answer and the clock, ms since the epoch."""
    candles: pa.Table
    """Candles of the window that were closed by then, as the source ordered them."""
    broken: Starts
    """Starts whose candles break a rule, in the last of the answers to the window."""


class WindowReader:
    """Asks a source for windows, lets closed and sound candles through, and counts the requests.

    Parameters
    ----------
    source : MarketSource
        Asked from any thread.
    interval : Interval
        Length of the candles.
    clock : SourceClock
        Says with each answer what is closed.
    """

    def __init__(self, source: MarketSource, interval: Interval, clock: SourceClock) -> None:
        self.source, self.interval, self.clock = source, interval, clock
        self._requests, self._lock = 0, Lock()

    @property
    def requests(self) -> int:
        """Windows asked for until now."""
        return self._requests

    def read(self, symbol: str, window: TimeRange) -> WindowAnswer:
        """Return what the source has of a window.

        With a candle that breaks a rule it is asked for again. One that breaks it still counts as
        one that did not come: it is a gap in the end.

        Raises
        ------
        InconsistentAnswer
            If most of the candles break a rule: then it is the answer that is wrong.
        ExchangeError
            As the source does.
        """
        for _ in range(1 + ASK_AGAIN):
            self._count()
            answer = self.source.candles(symbol, self.interval, window)
            closed_end = self.clock.closed_by(answer.as_of)
            rules = row_rules(answer.candles, self.interval)
            broken = np.logical_or.reduce(list(rules.values()))
            if not broken.any():
                break
        _require_mostly_sound(symbol, rules, broken)
        starts = starts_of(answer.candles)
        fits = ~broken & (starts >= window.start) & (starts < min(window.end, closed_end))
        candles = answer.candles if fits.all() else answer.candles.filter(pa.array(fits))
        return WindowAnswer(window, closed_end, candles, starts[broken])

    def windows(self, starts: Starts) -> list[TimeRange]:
        """Return the fewest windows that cover all starts."""
        return pack_windows(starts, self.interval, self.source.most_candles)

    def first_day(self, symbol: str, span: TimeRange) -> int | None:
        """Return the first day of a span on which the source has a candle, None without any.

        One request for every `most_candles` days until there is one.
        """
        day = Interval.DAY_1
        days = np.arange(day.floor(span.start), span.end, day.milliseconds, dtype=np.int64)
        for window in pack_windows(days, day, self.source.most_candles):
            self._count()
            answer = self.source.candles(symbol, day, window)
            if answer.candles.num_rows:
                return int(starts_of(answer.candles).min())
        return None

    def _count(self) -> None:
        with self._lock:
            self._requests += 1


def _require_mostly_sound(symbol: str, rules: Mapping[str, Broken], broken: Broken) -> None:
    count = int(np.count_nonzero(broken))
    if count > max(_FEW, len(broken) // 2):
        told = ", ".join(
            f"{int(found.sum())} {rule}" for rule, found in rules.items() if found.any()
        )
        raise InconsistentAnswer(
            f"{symbol}: {count} of {len(broken)} candles answered break a rule: {told}",
            symbol=symbol,
        )


@dataclass(frozen=True)
class Need:
    """What is to be read of one symbol, and what is known of it before."""

    symbol: str
    """Instrument."""
    wanted: Starts
    """Starts to be read."""
    stored: Starts
    """Starts at hand, in the months of the refresh."""
    stored_before: bool
    """Whether candles of earlier months are stored: nothing is before the listing then."""
    stored_after: bool
    """Whether candles of later months are stored: the symbol was not delisted before them."""
    recorded: Callable[[], Sequence[Gap]]
    """Gives the open gaps that were recorded before; called where something did not come."""

    @cached_property
    def gaps(self) -> Sequence[Gap]:
        """Open gaps that were recorded before."""
        return self.recorded()

    @cached_property
    def known_missing(self) -> npt.NDArray[np.bool_]:
        """Which of `wanted` [candles] were missing before: no use in asking thrice for them."""
        known = np.zeros(len(self.wanted), dtype=bool)
        for gap in self.gaps:
            first, last = np.searchsorted(self.wanted, [gap.first_start, gap.last_start + 1])
            # What trades no more has no later candles either.
            known[first : None if gap.cause is GapCause.DELISTED else last] = True
        return known


@dataclass
class SymbolReading:
    """The answers of one symbol.

    The first round of windows is asked for elsewhere, many symbols at a time; this asks again for
    what did not come of them.
    """

    reader: WindowReader
    """Asks the source."""
    need: Need
    """What is wanted."""
    answers: list[WindowAnswer]
    """All that came, later answers last."""
    listed: int | None = None
    """First instant at which the source may have a candle, ms since the epoch, where looked up."""

    def ask_again(self) -> None:
        """Ask for closed candles that did not come, at most twice more.

        A candle that the exchange does have is now and then missing from an answer. Those before
        the first candle are settled by one request of whole days. Where markets close, one more
        answer tells the hours of a closed one from candles that were lost.
        """
        continuous = self.reader.source.continuous
        for attempt in range(ASK_AGAIN if continuous else _ASK_CLOSED_AGAIN):
            again = self._unanswered()
            if attempt == 0 and continuous and self._may_precede_listing(again):
                span = TimeRange(int(again[0]), self.reader.clock.closed_end)
                self.listed = self.reader.first_day(self.need.symbol, span)
            if self.listed is not None:
                again = again[again >= self.listed]
            if not len(again):
                return
            for window in self.reader.windows(again):
                self.answers.append(self.reader.read(self.need.symbol, window))

    def missing(self) -> Starts:
        """Return the starts that the source does not have, and that are not stored either.

        A start that no answer could have held, since it had not closed by then, is not among
        them unless it was missing before.
        """
        wanted = self.need.wanted
        at_hand = self._among(self.need.stored) | self._answered()
        if at_hand.all():
            return wanted[:0]
        absent = self.need.known_missing.copy()
        for answer in self.answers:
            end = max(answer.window.start, min(answer.window.end, answer.closed_end))
            first, last = np.searchsorted(wanted, [answer.window.start, end])
            absent[first:last] = True
        return wanted[absent & ~at_hand]

    def _unanswered(self) -> Starts:
        # A stored candle that was to be read again counts too: it may have been revised.
        wanted = self.need.wanted
        # One that breaks a rule was asked for often enough.
        answered = self._answered() | self._among(*(each.broken for each in self.answers))
        absent = (wanted < self.reader.clock.closed_end) & ~answered
        return wanted[absent & ~self.need.known_missing] if absent.any() else wanted[:0]

    def _answered(self) -> npt.NDArray[np.bool_]:
        """Say which of the wanted starts [candles] came with an answer."""
        return self._among(*(starts_of(each.candles) for each in self.answers))

    def _among(self, *tables: Starts) -> npt.NDArray[np.bool_]:
        """Say which of the wanted starts [candles] are in some of the tables."""
        wanted = self.need.wanted
        found = np.zeros(len(wanted) + 1, dtype=bool)  # the last one is for starts beyond
        for starts in tables:
            place = np.searchsorted(wanted, starts)
            found[place[np.append(wanted, -1)[place] == starts]] = True
        return found[:-1]

    def _may_precede_listing(self, missing: Starts) -> bool:
        if not len(missing) or self.need.stored_before or self.reader.interval is Interval.DAY_1:
            return False
        tables = (self.need.stored, *(starts_of(answer.candles) for answer in self.answers))
        return not any((starts <= missing[0]).any() for starts in tables)
