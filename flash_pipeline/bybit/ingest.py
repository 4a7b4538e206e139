"""Brings the stored candles up to the exchange's clock: all that is missing, nothing twice."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.bybit.client import MAX_CANDLES, BybitClient
from flash_pipeline.errors import EmptyMonth, InvalidTimeRange, UnknownSymbol
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    Interval,
    Month,
    TimeRange,
    iso_utc,
    month_range,
    parse_symbols,
)
from flash_pipeline.storage.klines import KlineStore

REREAD_CANDLES = 3
"""Newest closed candles read again on each refresh, since the exchange revises them at times."""

_CONCURRENT_REQUESTS = 8


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
    """Candles that the grid has up to the exchange's clock."""


@dataclass(frozen=True)
class KlineRefresh:
    """What a refresh did."""

    now: int
    """The exchange's clock at its start, ms since the epoch."""
    synthetic: bool
    """Whether a simulator made the candles."""
    requests: int
    """Kline requests sent."""
    files_written: int
    """Month files that changed."""
    months: tuple[MonthSummary, ...]
    """One entry per symbol and month."""

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
        """Candles of the grid that the exchange did not have."""
        return sum(summary.expected - summary.rows for summary in self.months)


@dataclass(frozen=True)
class _Window:
    symbol: str
    time_range: TimeRange


def refresh_klines(
    client: BybitClient, store: KlineStore, symbols: Iterable[str], first: Month, last: Month
) -> KlineRefresh:
    """Fetch what the store lacks of the months `first` to `last`, and store it month by month.

    Only closed candles are stored: those with start + interval <= the exchange's clock. Missing
    candles are asked for in windows of at most 1000; the newest three are always read again.
    Candles that the exchange does not have stay absent and are asked for again next time.
    Every answer is in hand before the first file is written, and each file is replaced whole.

    Raises
    ------
    InvalidTimeRange
        If `first` has not begun by the exchange's clock. Later months just hold nothing yet.
    EmptyMonth
        If the exchange has no candle of any symbol in a month, as before their listing.
    SchemaMismatch
        If the store holds candles of another interval, or simulated ones beside real ones.
    ExchangeError
        If the exchange fails or refuses. Nothing stored has changed then.
    """
    symbols = parse_symbols(symbols)
    now = client.server_time()
    store.require_kind(synthetic=client.is_synthetic())
    if first.time_range.start > now:
        raise InvalidTimeRange(
            f"month {first} has not begun: the exchange's clock is {iso_utc(now)}"
        )
    closed_end = store.interval.floor(now)
    months = [m for m in month_range(first, last) if m.time_range.start < closed_end]
    if not months:
        return KlineRefresh(now, client.is_synthetic(), 0, 0, ())
    closed = TimeRange(months[0].time_range.start, min(months[-1].time_range.end, closed_end))
    stored = {symbol: store.read(symbol, months[0], months[-1]) for symbol in symbols}
    windows = [
        _Window(symbol, window)
        for symbol in symbols
        for window in windows_to_fetch(stored[symbol], closed, store.interval, closed_end)
    ]
    merged = _merge(stored, _fetch(client, store.interval, windows), closed)
    _require_candles(client, merged, months, closed)
    summaries = [
        MonthSummary(
            symbol,
            month,
            _within(merged[symbol], month.time_range).num_rows,
            len(closed.intersect(month.time_range).candle_starts(store.interval)),
        )
        for month in months
        for symbol in symbols
    ]
    written = _write(store, merged, stored, months, synthetic=client.is_synthetic())
    return KlineRefresh(now, client.is_synthetic(), len(windows), written, tuple(summaries))


def windows_to_fetch(
    stored: pa.Table, closed: TimeRange, interval: Interval, closed_end: int
) -> list[TimeRange]:
    """Return the fewest windows of at most 1000 candles that cover all that is to be read.

    Parameters
    ----------
    stored : pa.Table
        Candles at hand, rows of `CANDLE_SCHEMA`.
    closed : TimeRange
        Range in which candles are wanted.
    closed_end : int
        First instant that is not closed yet, ms since the epoch; the newest three candles
        before it are read again.
    """
    at_hand = set(stored["start_time"].to_pylist())
    # After a pause the newest stored candles are older than the newest closed ones: both count.
    newest = min(closed_end, max(at_hand, default=closed_end) + interval.milliseconds)
    reread_from = newest if closed.end == closed_end else closed_end
    reread = TimeRange(reread_from - REREAD_CANDLES * interval.milliseconds, closed_end)
    wanted = [t for t in closed.candle_starts(interval) if t not in at_hand or t in reread]
    windows: list[TimeRange] = []
    for start in wanted:
        if not windows or start >= windows[-1].start + MAX_CANDLES * interval.milliseconds:
            windows.append(TimeRange(start, start + interval.milliseconds))
        else:
            windows[-1] = TimeRange(windows[-1].start, start + interval.milliseconds)
    return windows


def _fetch(
    client: BybitClient, interval: Interval, windows: Sequence[_Window]
) -> list[tuple[str, pa.Table]]:
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS, thread_name_prefix="klines") as pool:
        answers = pool.map(lambda w: client.klines(w.symbol, interval, w.time_range), windows)
        return [(w.symbol, table) for w, table in zip(windows, answers, strict=True)]


def _merge(
    stored: dict[str, pa.Table], fetched: Sequence[tuple[str, pa.Table]], closed: TimeRange
) -> dict[str, pa.Table]:
    """Lay the fetched candles over the stored ones, closed candles only, oldest first."""
    merged = {}
    for symbol, old in stored.items():
        new = pa.concat_tables(
            [CANDLE_SCHEMA.empty_table(), *(table for name, table in fetched if name == symbol)]
        )
        kept = old.filter(pc.invert(pc.is_in(old["start_time"], new["start_time"])))
        merged[symbol] = _within(pa.concat_tables([kept, new]).sort_by("start_time"), closed)
    return merged


def _write(
    store: KlineStore,
    merged: dict[str, pa.Table],
    stored: dict[str, pa.Table],
    months: Sequence[Month],
    *,
    synthetic: bool,
) -> int:
    written = 0
    for month in months:
        for symbol, candles in merged.items():
            rows = _within(candles, month.time_range)
            if rows.num_rows and not rows.equals(_within(stored[symbol], month.time_range)):
                store.write_month(symbol, month, rows, synthetic=synthetic)
                written += 1
    return written


def _require_candles(
    client: BybitClient, merged: dict[str, pa.Table], months: Sequence[Month], closed: TimeRange
) -> None:
    for month in months:
        wanted = month.time_range.intersect(closed)
        if any(_within(candles, wanted).num_rows for candles in merged.values()):
            continue
        launches = ", ".join(f"{symbol} {_launch(client, symbol)}" for symbol in merged)
        raise EmptyMonth(
            f"month {month} is empty: the exchange has no candle of "
            f"{', '.join(merged)} in it (announced launches: {launches})"
        )


def _launch(client: BybitClient, symbol: str) -> str:
    try:
        return iso_utc(client.launch_time(symbol))
    except UnknownSymbol:
        return "none yet"


def _within(candles: pa.Table, time_range: TimeRange) -> pa.Table:
    start = candles["start_time"]
    inside = pc.and_(pc.greater_equal(start, time_range.start), pc.less(start, time_range.end))
    return candles.filter(inside).combine_chunks()
