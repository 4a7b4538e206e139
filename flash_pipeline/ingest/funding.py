"""Brings the stored funding up to the source's clock, and checks it.

The interval between settlements is each symbol's own and changes (8, 4, 1 h): it is taken from the
data themselves.
"""

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.errors import FileDamaged, InvalidTimeRange, UnknownSymbol
from flash_pipeline.market import (
    FUNDING_SCHEMA,
    FundingSource,
    Month,
    TimeRange,
    iso_utc,
    month_range,
    parse_symbols,
)
from flash_pipeline.storage.funding import FundingStore

_HOUR_MS = 3_600_000
_JITTER_MS = 60_000
"""How far a settlement may lie off the full hour; closer than this, two of them are one."""

_LARGEST_RATE = 0.1
"""Of a position's value at one settlement; -0.5 % and the like are real."""

_USUAL_MS = 8 * _HOUR_MS
"""Interval where there are too few settlements to tell."""

_ASK_AGAIN = 2
_SYMBOLS_AT_ONCE = 8

Times = npt.NDArray[np.int64]
"""Settlements [settlements], ms since the epoch, sorted."""


@dataclass(frozen=True)
class FundingRefresh:
    """What a refresh did."""

    source: str
    """Name of the source."""
    now: int
    """The source's clock at its start, ms since the epoch."""
    files_written: int
    """Month files that changed."""
    rows: dict[str, int]
    """Settlements stored of the months, by symbol; 0 where the source has none."""


def refresh_funding(
    source: FundingSource,
    store: FundingStore,
    symbols: Iterable[str],
    first: Month,
    last: Month,
) -> FundingRefresh:
    """Fetch the funding that the store lacks of the months `first` to `last`.

    That is what came after the newest stored settlement, and what seems to be missing between
    others. What still seems to be missing is asked for twice more. A symbol or a month without
    funding is empty, which is no error: a month that is over gets a file all the same, which says
    that it was asked for. A file that cannot be read is fetched and written anew. Of a symbol that
    the source knows no more, what is stored stays.

    Raises
    ------
    InvalidTimeRange
        If `first` has not begun by the source's clock.
    SchemaMismatch
        If the store holds simulated funding beside real one.
    ExchangeError
        If the source fails or refuses. Symbols that were through by then are stored.
    """
    symbols = tuple(symbols)
    symbols = parse_symbols(symbols) if symbols else ()
    now = source.now()
    store.require_kind(synthetic=source.is_synthetic())
    if first.time_range.start > now:
        raise InvalidTimeRange(
            f"month {first} has not begun: the exchange's clock is {iso_utc(now)}"
        )
    months = [month for month in month_range(first, last) if month.time_range.start <= now]

    def refresh(symbol: str) -> tuple[int, int]:
        try:
            return _refresh_symbol(source, store, symbol, months, now)
        except UnknownSymbol:  # the candles' refresh tells one that was never known
            return sum(_readable(store, symbol, month).num_rows for month in months), 0

    with ThreadPoolExecutor(_SYMBOLS_AT_ONCE, thread_name_prefix="funding") as pool:
        done = list(pool.map(refresh, symbols))
    rows = {symbol: kept for symbol, (kept, _) in zip(symbols, done, strict=True)}
    return FundingRefresh(source.name, now, sum(written for _, written in done), rows)


def audit_funding(
    store: FundingStore, symbols: Iterable[str], months: Collection[Month] | None = None
) -> list[str]:
    """Return what is wrong with the stored funding, one sentence each; empty if nothing is.

    Settlements must be sorted, unique, of their month and within a minute of a full hour, at
    rates of at most 10 % either way, in a file that can be read.

    Parameters
    ----------
    months : collection of Month or None
        Months to look at; all that are stored by default.
    """
    return [
        f"{symbol} {month}: {problem}"
        for symbol in symbols
        for month in store.months(symbol)
        if months is None or month in months
        for problem in _audit_file(store, symbol, month)
    ]


def doubt_funding(store: FundingStore, symbols: Iterable[str]) -> list[str]:
    """Return where settlements seem to be missing, one sentence a symbol."""
    doubts = []
    for symbol in symbols:
        holes = funding_holes(store.read_all(symbol)["funding_time"].to_numpy())
        if holes:
            doubts.append(f"{symbol}: settlements seem to be missing in {holes[0]}")
    return doubts


def funding_holes(times: Times) -> list[TimeRange]:
    """Return the ranges in which settlements seem to be missing.

    Two settlements are too far apart if they are further apart than those on either side, and
    than eight hours at either end, where there is one side only. Where the interval changes, one
    side is as far apart. Months that nobody asked for are no hole.
    """
    apart = np.diff(times)
    sides = np.concatenate([[_USUAL_MS], apart, [_USUAL_MS]])
    around = np.maximum(sides[:-2], sides[2:])
    holes = np.flatnonzero(apart > around + _JITTER_MS).tolist()
    return [TimeRange(int(times[n]) + 1, int(times[n + 1])) for n in holes]


def _refresh_symbol(
    source: FundingSource, store: FundingStore, symbol: str, months: Sequence[Month], now: int
) -> tuple[int, int]:
    """Return the settlements that are stored now, and the files that changed."""
    stored = {month: _readable(store, symbol, month) for month in months}
    funding = _lay_over(list(stored.values()))
    span = TimeRange(months[0].time_range.start, min(months[-1].time_range.end, now + 1))
    for attempt in range(1 + _ASK_AGAIN):
        times = funding["funding_time"].to_numpy()
        missing = _to_read(times, span, at_least_newest=attempt == 0)
        if not missing:
            break
        funding = _lay_over([funding, *(source.funding(symbol, window) for window in missing)])
    written = 0
    for month, old in stored.items():
        rows = _within(funding, month.time_range)
        asked = month.time_range.end <= now and not store.path(symbol, month).is_file()
        if asked or store.is_damaged(symbol, month) or (rows.num_rows and not rows.equals(old)):
            store.write_month(symbol, month, rows, synthetic=source.is_synthetic())
            written += 1
    return funding.num_rows, written


def _to_read(times: Times, span: TimeRange, *, at_least_newest: bool) -> list[TimeRange]:
    """Return the ranges of a span in which settlements are or may be missing, oldest first."""
    if not len(times):
        return [span]
    apart = np.diff(times) if len(times) > 1 else np.array([_USUAL_MS])
    ranges = funding_holes(times)
    if times[0] - span.start >= apart[0] - _JITTER_MS:
        ranges.insert(0, TimeRange(span.start, int(times[0])))
    # The interval may have become shorter, so only asking tells whether there is a newer one.
    if at_least_newest or span.end - times[-1] > apart[-1] + _JITTER_MS:
        ranges.append(TimeRange(min(span.end, int(times[-1]) + 1), span.end))
    return ranges


def _lay_over(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the settlements of all tables, sorted and unique; the later table's wins."""
    funding = pa.concat_tables([FUNDING_SCHEMA.empty_table(), *tables]).combine_chunks()
    times = funding["funding_time"].to_numpy()
    _, newest = np.unique(times[::-1], return_index=True)
    return funding.take(pa.array(len(times) - 1 - newest))


def _within(funding: pa.Table, time_range: TimeRange) -> pa.Table:
    times = funding["funding_time"].to_numpy()
    low, high = np.searchsorted(times, [time_range.start, time_range.end])
    return funding.slice(int(low), int(high - low))


def _readable(store: FundingStore, symbol: str, month: Month) -> pa.Table:
    """Return a month's stored funding; no rows where its file cannot be read."""
    try:
        return store.read_month(symbol, month)
    except FileDamaged:
        return FUNDING_SCHEMA.empty_table()


def _audit_file(store: FundingStore, symbol: str, month: Month) -> list[str]:
    try:
        return _audit_month(store.read_month(symbol, month), month)
    except FileDamaged as error:
        return [str(error)]


def _audit_month(funding: pa.Table, month: Month) -> list[str]:
    times, rates = funding["funding_time"].to_numpy(), funding["rate"].to_numpy()
    off_hour = (times + _JITTER_MS) % _HOUR_MS > 2 * _JITTER_MS
    rules = {
        "settlements out of order or twice": np.diff(times) <= _JITTER_MS,
        "settlements of another month": (times < month.time_range.start)
        | (times >= month.time_range.end),
        "settlements off the hour": off_hour,
        f"rates beyond {_LARGEST_RATE:.0%}": ~(np.abs(rates) <= _LARGEST_RATE),
    }
    return [f"{int(broken.sum())} {name}" for name, broken in rules.items() if broken.any()]
