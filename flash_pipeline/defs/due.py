"""Which months a scheduled run covers: those in which something is or may be missing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from flash_pipeline.defs.partitions import FIRST_MONTH
from flash_pipeline.defs.record import bybit_symbols, candle_gaps, mark_gaps
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import WarehouseLocked
from flash_pipeline.ingest import Gap, GapCause, audit_klines, first_lacking
from flash_pipeline.market import Month, month_range
from flash_pipeline.settings import Settings
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore

_ASK_AGAIN_AFTER_MS = 20 * 3_600_000
"""A gap is asked for again once a day, by the reference run of the hour that did so first."""

_FOR_GOOD = (GapCause.BEFORE_LISTING, GapCause.DELISTED)
"""Causes that no later answer changes."""

_PATIENCE_S = 5.0
"""How long a tick waits for the warehouse: an evaluation is to end within a minute."""


def months_to_refresh(
    settings: Settings, pipeline: PipelineResource, now: int, *, reference: bool = False
) -> tuple[Month, Month]:
    """Return the months of a scheduled run at an instant (ms since the epoch).

    The current month, and the one before it while the newest three candles, which are always
    read again, reach into it. Then from the first month of the windows in which candles of any
    symbol are neither stored nor recorded as missing: a new home, a new symbol, a pause, a run
    that was killed. Where another process holds the record of gaps, that waits for a later tick.

    Parameters
    ----------
    reference : bool
        Whether the run refreshes the reference data too. It then covers the month before as well,
        the months that lack funding or candles of the mark price, gaps that have not been asked
        for again for a day, and months with candles that cannot be.
    """
    store = pipeline.store(settings)
    current = Month.containing(now)
    first = min(Month.containing(now - 4 * store.interval.milliseconds), current)
    wanted_from = max(Month.parse(FIRST_MONTH), pipeline.window_months(current)[0])
    if wanted_from < current:
        months = list(month_range(wanted_from, current.shift(-1)))
        lacking = list(_lacking(settings, pipeline, months))
        if reference:
            lacking += [months[-1], *_reference(settings, pipeline, months, now)]
        first = min([first, *lacking])
    return first, current


def _lacking(
    settings: Settings, pipeline: PipelineResource, months: Sequence[Month]
) -> Iterator[Month]:
    symbols = pipeline.resolve().data.symbols
    store = pipeline.store(settings)
    try:
        gaps = candle_gaps(settings, store.interval, symbols, wait_s=_PATIENCE_S)
    except WarehouseLocked:
        return
    yield from _first_of_each(store, symbols, gaps, months)


def _reference(
    settings: Settings, pipeline: PipelineResource, months: Sequence[Month], now: int
) -> Iterator[Month]:
    symbols = pipeline.resolve().data.symbols
    store, marks = pipeline.store(settings), pipeline.mark_store(settings)
    perpetuals = bybit_symbols(settings, symbols)
    yield from _without_funding(FundingStore(settings.funding), perpetuals, months)
    yield from _broken(store, symbols, months)
    yield from _broken(marks, perpetuals, months)
    try:
        of_marks = mark_gaps(settings, marks.interval, wait_s=_PATIENCE_S)
        of_trades = candle_gaps(settings, store.interval, symbols, wait_s=_PATIENCE_S)
    except WarehouseLocked:
        return
    yield from _first_of_each(marks, perpetuals, of_marks, months)
    for gaps in (of_trades, of_marks):
        known = [gap for symbol in symbols for gap in gaps.get(symbol, ())]
        yield from _to_ask_again(known, months, now)


def _first_of_each(
    store: KlineStore,
    symbols: Iterable[str],
    gaps: Mapping[str, Sequence[Gap]],
    months: Sequence[Month],
) -> Iterator[Month]:
    for symbol in symbols:
        month = first_lacking(store, symbol, gaps.get(symbol, ()), months)
        if month is not None:
            yield month


def _without_funding(
    store: FundingStore, symbols: Iterable[str], months: Sequence[Month]
) -> Iterator[Month]:
    """Yield each symbol's first month that funding was never asked for, and the month before.

    A month whose file cannot be read counts as one. The month before may
    have been stored before it was over, and a pause then began.
    """
    for symbol in symbols:
        asked = set(store.months(symbol))
        for n, month in enumerate(months):
            if month not in asked or store.is_damaged(symbol, month):
                yield months[max(0, n - 1)]
                break


def _broken(store: KlineStore, symbols: Iterable[str], months: Sequence[Month]) -> Iterator[Month]:
    """Yield the first month with a candle that breaks a rule: it is read again."""
    names = list(symbols)
    for month in months:
        if audit_klines(store, names, closed_end=month.time_range.end, months=[month]):
            yield month
            return


def _to_ask_again(gaps: Iterable[Gap], months: Sequence[Month], now: int) -> Iterator[Month]:
    for gap in gaps:
        ended = gap.last_start < months[0].time_range.start
        if gap.cause not in _FOR_GOOD and now - gap.checked_at >= _ASK_AGAIN_AFTER_MS and not ended:
            month = max(months[0], Month.containing(gap.first_start))
            if month <= months[-1]:
                yield month
