"""Hard checks of the stored candles: what breaks one of these rules is wrong, not just unlikely."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.ingest.gaps import Gap
from flash_pipeline.ingest.merge import starts_of
from flash_pipeline.ingest.windows import Starts, runs
from flash_pipeline.market import Interval, Month, TimeRange, iso_utc
from flash_pipeline.storage.klines import KlineStore

_AVERAGE_TOLERANCE = 1e-3
"""Of a price. A turnover in the place of the volume is off by orders of magnitude; the exchange's
own rounding by less than this: in one real hour of 2021 the average lies 0.05 % below the low."""

_NAMED = 3

Broken = npt.NDArray[np.bool_]
"""Which candles [candles] break a rule."""


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

    They must be sorted, unique, on the grid, of the month and closed; prices finite, above zero,
    with low <= open, close <= high; volumes 0 or more, and low <= turnover / volume <= high, with
    a tolerance for rounding. No trade (volume 0) and an unknown turnover (null) pass.
    """
    start = starts_of(candles)
    end = month.time_range.end if closed_end is None else closed_end
    rules = {
        "candles out of order or twice": np.diff(start) <= 0,
        f"candles off the {interval.value} grid": start % interval.milliseconds != 0,
        "candles of another month": (start < month.time_range.start)
        | (start >= month.time_range.end),
        "candles not closed yet": (start >= end) & (start < month.time_range.end),
        **_price_rules(candles),
        **(_volume_rules(candles) if "volume" in candles.column_names else {}),
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

    Parameters
    ----------
    gaps : mapping of str to sequence of Gap
        Open gaps by symbol.
    closed_end : int
        First instant up to which candles are expected, ms since the epoch.
    months : sequence of Month or None
        Months to look at; all that are stored by default.
    """
    problems = []
    for symbol, month, candles in _month_files(store, symbols, months):
        closed = month.time_range.intersect(TimeRange(0, closed_end))
        grid = np.array(closed.candle_starts(store.interval), dtype=np.int64)
        held = np.isin(grid, starts_of(candles))
        for gap in gaps.get(symbol, ()):
            held |= (grid >= gap.first_start) & (grid <= gap.last_start)
        if not held.all():
            holes = _holes(grid[~held], store.interval)
            problems.append(f"{symbol} {month}: {int((~held).sum())} candles unaccounted: {holes}")
    return problems


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


def _price_rules(candles: pa.Table) -> dict[str, Broken]:
    low, high = candles["low"].to_numpy(), candles["high"].to_numpy()
    body = np.stack([candles["open"].to_numpy(), candles["close"].to_numpy()])
    return {
        "prices not above zero": ~(low > 0),
        "infinite prices": np.isinf(high),
        "opens or closes outside low to high": ~((low <= body) & (body <= high)).all(axis=0),
    }


def _volume_rules(candles: pa.Table) -> dict[str, Broken]:
    volume, turnover = candles["volume"].to_numpy(), candles["turnover"].to_numpy()
    low, high = candles["low"].to_numpy(), candles["high"].to_numpy()
    known = (volume > 0) & np.isfinite(volume) & ~np.isnan(turnover)
    average = np.divide(turnover, volume, out=low.copy(), where=known)
    return {
        "negative or missing volumes": ~((volume >= 0) & np.isfinite(volume)),
        "average prices (turnover / volume) outside low to high": known
        & ~(
            (average >= low * (1 - _AVERAGE_TOLERANCE))
            & (average <= high * (1 + _AVERAGE_TOLERANCE))
        ),
    }
