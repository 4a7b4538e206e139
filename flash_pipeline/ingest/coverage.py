"""Which months lack candles, told from the sizes of the files and the gaps on record."""

from collections.abc import Iterable, Sequence

import pyarrow.parquet as pq

from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.market import Interval, Month
from flash_pipeline.storage.klines import KlineStore


def first_lacking(
    store: KlineStore, symbol: str, gaps: Sequence[Gap], months: Iterable[Month]
) -> Month | None:
    """Return the first month with candles neither stored nor recorded as missing; None if none.

    Parameters
    ----------
    gaps : sequence of Gap
        Open gaps of the symbol. After a delisting no candles are expected.
    months : iterable of Month
        Months that are over, oldest first.
    """
    stored = set(store.months(symbol))
    for month in months:
        expected = len(month.time_range.candle_starts(store.interval))
        expected -= sum(_candles(gap, month, store.interval) for gap in gaps)
        if expected <= 0:
            continue
        path = store.path(symbol, month)
        if month not in stored or pq.read_metadata(path).num_rows < expected:
            return month
    return None


def _candles(gap: Gap, month: Month, interval: Interval) -> int:
    """Return how many candles of a month lie in a gap."""
    step, span = interval.milliseconds, month.time_range
    last = span.end if gap.cause is GapCause.DELISTED else min(gap.last_start + step, span.end)
    return max(0, last - max(gap.first_start, span.start)) // step
