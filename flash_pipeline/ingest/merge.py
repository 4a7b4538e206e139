"""Lays answers over what is stored, column by column: no candle is looked at alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.ingest.windows import Starts
from flash_pipeline.market import TimeRange


def starts_of(candles: pa.Table) -> Starts:
    """Return the `start_time` column, uncopied where it is of one piece."""
    starts: Starts = candles["start_time"].to_numpy()
    return starts


def lay_over(stored: pa.Table, answers: Sequence[pa.Table]) -> pa.Table:
    """Return the candles of all tables, sorted and unique by start.

    Parameters
    ----------
    stored : pa.Table
        Candles at hand, in any order.
    answers : sequence of pa.Table
        Tables of the same columns, each in any order; of two candles of one start the later
        table's wins, and within a table the later row.
    """
    candles = pa.concat_tables([stored, *answers]).combine_chunks()
    starts = starts_of(candles)
    if (np.diff(starts) > 0).all():
        return candles
    order = np.argsort(starts, kind="stable")
    ordered = starts[order]
    newest = np.append(ordered[1:] != ordered[:-1], True)
    return candles.take(pa.array(order[newest]))


def within(candles: pa.Table, time_range: TimeRange) -> pa.Table:
    """Return the candles that open within a range, uncopied.

    Parameters
    ----------
    candles : pa.Table
        Sorted by start.
    """
    low, high = np.searchsorted(starts_of(candles), [time_range.start, time_range.end])
    return candles.slice(int(low), int(high - low))


def revisions(old: pa.Table, new: pa.Table) -> pa.Table:
    """Return the candles of which a value changed, with what it was and what it is.

    Parameters
    ----------
    old, new : pa.Table
        Candles of the same columns, sorted and unique by start.

    Returns
    -------
    pa.Table
        `start_time`, then `open_old`, `open_new` and so on for each column; no rows where nothing
        changed. A candle that only one of the tables has is no revision. Null and NaN are one.
    """
    _, in_old, in_new = np.intersect1d(
        starts_of(old), starts_of(new), assume_unique=True, return_indices=True
    )
    values = [name for name in old.column_names if name != "start_time"]
    changed = np.zeros(len(in_old), dtype=bool)
    for name in values:
        changed |= _differ(old[name].to_numpy()[in_old], new[name].to_numpy()[in_new])
    before, after = (
        table.take(pa.array(rows[changed])) for table, rows in ((old, in_old), (new, in_new))
    )
    columns = {"start_time": before["start_time"]}
    for name in values:
        columns |= {f"{name}_old": before[name], f"{name}_new": after[name]}
    return pa.table(columns)


def _differ(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    differs: npt.NDArray[np.bool_] = (old != new) & ~(np.isnan(old) & np.isnan(new))
    return differs
