"""Hard checks of the stored candles: what breaks one of these rules is wrong, not just unlikely."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from flash_pipeline.ingest.gaps import Gap
from flash_pipeline.ingest.merge import starts_of
from flash_pipeline.ingest.rules import row_rules
from flash_pipeline.ingest.windows import Starts, runs
from flash_pipeline.market import Interval, Month, TimeRange, iso_utc, month_range
from flash_pipeline.storage.klines import KlineStore

_NAMED = 3


def audit_klines(
    store: KlineStore,
    symbols: Iterable[str],
    *,
    closed_end: int,
    months: Sequence[Month] | None = None,
) -> list[str]:
    """Return what is wrong with the stored candles, one sentence each; empty if nothing is.

    Parameters
    ----------
    store : KlineStore
        Candles of trades, or of a mark price: those have no volume to look at.
    closed_end : int
        First instant that is not closed yet, ms since the epoch.
    months : sequence of Month or None
        Months to look at; all that are stored by default.
    """
    return [
        f"{symbol} {month}: {problem}"
        for symbol, month, candles in _month_files(store, symbols, months)
        for problem in audit_month(candles, month, store.interval, closed_end=closed_end)
    ]


def audit_month(
    candles: pa.Table, month: Month, interval: Interval, *, closed_end: int | None = None
) -> list[str]:
    """Return what is wrong with one month's candles, one sentence each.

    They must be sorted, unique, of the month and closed, and each must keep `rules.row_rules`.
    """
    start = starts_of(candles)
    end = month.time_range.end if closed_end is None else closed_end
    rules = {
        "candles out of order or twice": np.diff(start) <= 0,
        "candles of another month": (start < month.time_range.start)
        | (start >= month.time_range.end),
        "candles not closed yet": (start >= end) & (start < month.time_range.end),
        **row_rules(candles, interval),
    }
    return [f"{int(broken.sum())} {name}" for name, broken in rules.items() if broken.any()]


def audit_completeness(
    store: KlineStore,
    symbols: Iterable[str],
    gaps: Mapping[str, Sequence[Gap]],
    *,
    closed_end: int,
    months: Sequence[Month] | None = None,
) -> list[str]:
    """Return the candles that are neither stored nor recorded as missing, one sentence a month.

    A month without a file lacks all of its candles.

    Parameters
    ----------
    gaps : mapping of str to sequence of Gap
        Open gaps by symbol.
    closed_end : int
        First instant up to which candles are expected, ms since the epoch.
    months : sequence of Month or None
        Months to look at; by default all from a symbol's first stored one to `closed_end`.
    """
    problems = []
    for symbol in symbols:
        for month in _months_until(store, symbol, closed_end) if months is None else months:
            missing = _unaccounted(store, symbol, month, gaps.get(symbol, ()), closed_end)
            if len(missing):
                holes = _holes(missing, store.interval)
                problems.append(f"{symbol} {month}: {len(missing)} candles unaccounted: {holes}")
    return problems


def _months_until(store: KlineStore, symbol: str, closed_end: int) -> list[Month]:
    stored = store.months(symbol)
    last = Month.containing(closed_end)
    return list(month_range(stored[0], max(last, stored[0]))) if stored else []


def _unaccounted(
    store: KlineStore, symbol: str, month: Month, gaps: Sequence[Gap], closed_end: int
) -> Starts:
    closed = month.time_range.intersect(TimeRange(0, closed_end))
    grid = np.array(closed.candle_starts(store.interval), dtype=np.int64)
    held = np.isin(grid, starts_of(store.read_month(symbol, month)))
    for gap in gaps:
        held |= (grid >= gap.first_start) & (grid <= gap.last_start)
    missing: Starts = grid[~held]
    return missing


def _holes(missing: Starts, interval: Interval) -> str:
    found = runs(missing, interval)
    named = [iso_utc(a) if a == b else f"{iso_utc(a)} to {iso_utc(b)}" for a, b in found[:_NAMED]]
    return ", ".join(named) + (" and more" if len(found) > _NAMED else "")


def _month_files(
    store: KlineStore, symbols: Iterable[str], months: Sequence[Month] | None
) -> Iterator[tuple[str, Month, pa.Table]]:
    for symbol in symbols:
        for month in store.months(symbol):
            if months is None or month in months:
                yield symbol, month, store.read_month(symbol, month)
