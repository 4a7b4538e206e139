"""Brings the stored candles up to the source's clock: all that is missing, nothing twice.

    symbols ──► windows ──► answers ──► one symbol's candles ──► revisions, gaps ──► month files
                (of many symbols)       (once all of its windows are in)

Memory holds the candles of a few symbols at a time. A failure, a kill included, leaves every file
as it was or as it is to be.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from threading import Lock

from flash_pipeline.errors import InvalidTimeRange
from flash_pipeline.ingest.book import GapBook
from flash_pipeline.ingest.clock import SourceClock
from flash_pipeline.ingest.forgotten import ask_about_known
from flash_pipeline.ingest.ledger import Ledger
from flash_pipeline.ingest.outcome import KlineRefresh, MonthSummary, refuse_empty
from flash_pipeline.ingest.pipeline import run_in_order
from flash_pipeline.ingest.reading import WindowReader
from flash_pipeline.ingest.symbol import SymbolOutcome, SymbolRefresh, Task
from flash_pipeline.market import Interval, MarketSource, Month, iso_utc, month_range, parse_symbols
from flash_pipeline.storage.klines import KlineStore

_MOST_PASSES = 3


def refresh_klines(
    source: MarketSource,
    store: KlineStore,
    symbols: Iterable[str],
    first: Month,
    last: Month,
    *,
    ledger: Ledger | None = None,
    require_candles: bool = True,
) -> KlineRefresh:
    """Fetch what the store lacks of the months `first` to `last`, and store it month by month.

    Only closed candles are stored: those with start + interval <= the source's clock, by the
    answer that holds them as well as by the clock read before. Missing candles are asked for in
    the fewest windows; the newest three are always read again. A closed candle that does not come
    is asked for twice more; then it is a gap: recorded, never filled with anything made up, and
    asked for again by the next refresh.

    A refresh that took longer than an interval, or whose clock was behind at first, goes on with
    what has closed since.

    A symbol that the source knows no more, and of which candles are stored, counts as delisted:
    its candles stay, the others are refreshed, and `KlineRefresh.forgotten` names it.

    Parameters
    ----------
    source : MarketSource
        Asked by many threads at once.
    symbols : iterable of str
        Instruments of the source, each once; may be none.
    ledger : Ledger or None
        Where gaps and revisions are recorded: before the candles of their symbol are stored. It
        is opened after the first requests only. None records nothing.
    require_candles : bool
        Whether a month in which no symbol has a candle is an error, and a symbol that the source
        does not know and of which no candle is stored.

    Raises
    ------
    InvalidTimeRange
        If `first` has not begun by the source's clock. Later months just hold nothing yet.
    EmptyMonth
        If the source has no candle of any symbol in a month, as before their listing.
    SchemaMismatch
        If the store holds candles of another interval or source, or simulated ones beside real
        ones.
    UnknownSymbol
        With all symbols that the source does not know and of which nothing is stored; the others
        are refreshed by then.
    InconsistentAnswer
        If the source's clock is more than a few candles behind what is stored, or most of an
        answer's candles cannot be.
    ExchangeError
        If the source fails or refuses. Symbols that were through by then are stored.
    """
    symbols = tuple(symbols)
    symbols = parse_symbols(symbols) if symbols else ()
    done: list[KlineRefresh] = []
    while len(done) < _MOST_PASSES:
        clock = _read_clock(source, store.interval, first)
        store.require_kind(synthetic=source.is_synthetic(), source=source.name, symbols=symbols)
        months = [m for m in month_range(first, last) if m.time_range.start < clock.closed_end]
        reader = WindowReader(source, store.interval, clock)
        gone = _Delistings(source, symbols)
        task = Task(reader, store, months, ledger, GapBook(ledger), gone)
        outcomes = _refresh_symbols(task, symbols)
        done.append(_summarize(task, outcomes))
        if require_candles:
            refuse_empty(done[-1])
        if not clock.moved_on:
            break
    return replace(
        done[-1],
        requests=sum(each.requests for each in done),
        files_written=sum(each.files_written for each in done),
        revisions=sum(each.revisions for each in done),
    )


def _read_clock(source: MarketSource, interval: Interval, first: Month) -> SourceClock:
    """Return the source's clock, read twice before it refuses a month."""
    clock = SourceClock(source, interval)
    if first.time_range.start > clock.now:
        clock = SourceClock(source, interval)
    if first.time_range.start > clock.now:
        raise InvalidTimeRange(
            f"month {first} has not begun: the exchange's clock is {iso_utc(clock.now)}"
        )
    return clock


def _refresh_symbols(task: Task, symbols: Sequence[str]) -> list[SymbolOutcome]:
    """Refresh by one reading of the clock."""
    if not task.months:
        return []
    outcomes = list(run_in_order(SymbolRefresh(task, symbol) for symbol in symbols))
    _record_filled(task, outcomes)
    return outcomes


def _record_filled(task: Task, outcomes: Sequence[SymbolOutcome]) -> None:
    """Put on record which gaps are none any more, of symbols that miss nothing now."""
    known = task.book.known()
    for outcome in outcomes:
        if outcome.symbol in known and not outcome.missing:
            gaps = task.reconciled(known[outcome.symbol], ())
            task.book.record(outcome.symbol, gaps)


def _summarize(task: Task, outcomes: Sequence[SymbolOutcome]) -> KlineRefresh:
    source, clock = task.reader.source, task.reader.clock
    return KlineRefresh(
        source=source.name,
        now=clock.now,
        synthetic=source.is_synthetic(),
        requests=task.reader.requests,
        files_written=sum(outcome.files_written for outcome in outcomes),
        revisions=sum(outcome.revisions for outcome in outcomes),
        months=tuple(
            MonthSummary(outcome.symbol, month, outcome.rows[n], _expected(task, month))
            for n, month in enumerate(task.months)
            for outcome in outcomes
        ),
        missing_by_cause=_by_cause(task, outcomes),
        clocks={source.name: clock.now},
        continuous=source.continuous,
        first_starts={outcome.symbol: outcome.first_start for outcome in outcomes},
        forgotten=tuple(outcome.symbol for outcome in outcomes if outcome.forgotten),
        unknown=_never_stored(task, outcomes),
    )


def _never_stored(task: Task, outcomes: Sequence[SymbolOutcome]) -> tuple[str, ...]:
    unknown = (outcome.symbol for outcome in outcomes if outcome.forgotten)
    return tuple(symbol for symbol in unknown if not task.store.months(symbol))


def _expected(task: Task, month: Month) -> int:
    return len(task.closed.intersect(month.time_range).candle_starts(task.store.interval))


def _by_cause(task: Task, outcomes: Sequence[SymbolOutcome]) -> dict[str, int]:
    causes: Counter[str] = Counter()
    for outcome in outcomes:
        for run in outcome.missing:
            causes[run.cause.value] += run.candles(task.store.interval)
    return dict(causes)


class _Delistings:
    """Says which symbols trade no more; the source is asked once, and only when someone asks.

    One that it does not know is among them: only of a symbol that has candles does anyone ask.
    """

    def __init__(self, source: MarketSource, symbols: Sequence[str]) -> None:
        self._source, self._symbols, self._lock = source, symbols, Lock()
        self._delisted: frozenset[str] | None = None

    def __call__(self, symbol: str) -> bool:
        with self._lock:
            if self._delisted is None:
                none: frozenset[str] = frozenset()
                gone, unknown = ask_about_known(self._source.delisted, self._symbols, none)
                self._delisted = gone | set(unknown)
            return symbol in self._delisted
