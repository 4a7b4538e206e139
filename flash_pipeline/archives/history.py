"""Joins the files of one symbol into candles of one interval."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.archives.files import CandleFile
from flash_pipeline.archives.monthly import read_month
from flash_pipeline.archives.recordings import read_recording
from flash_pipeline.errors import DataError
from flash_pipeline.market import CANDLE_SCHEMA, Interval, iso_utc

_SUM_TOLERANCE = 1e-9  # of volumes and turnovers that were added up in another order
_PRICES = ("open", "high", "low", "close")
_SUMS = ("volume", "turnover")


@dataclass(frozen=True)
class History:
    """The candles of one symbol that some files hold."""

    candles: pa.Table
    """Rows of `CANDLE_SCHEMA`: sorted, unique, on the interval's grid."""
    incomplete: int
    """Candles that were left out, since not all of the finer ones they are made of are there."""
    unproven: int = 0
    """Candles of the files that were left out: the newest of each recording, which may have been
    forming when it was written. Not counted where another file holds it further within."""


def read_file(file: CandleFile) -> pa.Table:
    """Return a file's candles, checked, as `CANDLE_SCHEMA`; errors as of its format."""
    return read_month(file) if file.format == "archive" else read_recording(file)


def read_history(files: Sequence[CandleFile], interval: Interval) -> History:
    """Return the candles of one symbol's files.

    Finer candles are put together to those of `interval`, from whole groups only, across the
    edges of files. Where files overlap they must agree. The newest candle of a recording is left
    out: whether it had closed when it was written, no file tells. Months of the archive are
    published when they are over.

    Parameters
    ----------
    files : sequence of CandleFile
        Of one symbol, at least one.

    Raises
    ------
    DataError
        If a file's candles cannot make those of the interval, or two files differ, or as of
        `read_file`.
    """
    by_interval: dict[Interval, list[tuple[Path, pa.Table]]] = defaultdict(list)
    newest: dict[Interval, list[int]] = defaultdict(list)
    for file in files:
        if interval.minutes % file.interval.minutes:
            raise DataError(
                f"{file.path} holds candles of interval {file.interval.value}: none of "
                f"interval {interval.value} can be made of these"
            )
        candles = read_file(file)
        if file.format == "recording":
            newest[file.interval].append(candles["start_time"][-1].as_py())
            candles = candles.slice(0, candles.num_rows - 1)
        by_interval[file.interval].append((file.path, candles))
    parts, incomplete, unproven = [], 0, 0
    for finer, tables in by_interval.items():
        joined = _join(tables)
        unproven += _absent(newest[finer], joined)
        whole, left_out = _put_together(joined, finer, interval)
        parts.append((tables[0][0], whole))
        incomplete += left_out
    return History(_join(parts), incomplete, unproven)


def _join(parts: Sequence[tuple[Path, pa.Table]]) -> pa.Table:
    """Return the rows of all tables, sorted and unique; equal rows that overlap collapse."""
    if len(parts) == 1:
        return parts[0][1]
    whole = pa.concat_tables([table for _, table in parts]).combine_chunks()
    starts = whole["start_time"].to_numpy()
    owners = np.repeat(np.arange(len(parts)), [table.num_rows for _, table in parts])
    unknown = whole["turnover"].is_null().to_numpy()
    order = np.lexsort((owners, unknown, starts))  # a known turnover goes before an unknown one
    again = np.flatnonzero(np.diff(starts[order]) == 0) + 1
    one, other = order[again - 1], order[again]
    for name in (*_PRICES, *_SUMS):
        column = whole[name].to_numpy()
        differing = np.flatnonzero(differ(column[one], column[other], name))
        if len(differing):
            first, second = int(one[differing[0]]), int(other[differing[0]])
            raise DataError(
                f"{parts[owners[first]][0]} and {parts[owners[second]][0]} differ at "
                f"{iso_utc(int(starts[first]))}: {name} {column[first]} and {column[second]}"
            )
    return whole.take(pa.array(np.delete(order, again)))


def differ(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], name: str
) -> npt.NDArray[np.bool_]:
    """Say where two columns of one name contradict each other; what is unknown does not.

    Prices must be equal. Volumes and turnovers may differ in the last digits, since sums of
    finer candles do.
    """
    tolerance = _SUM_TOLERANCE * np.abs(other) if name in _SUMS else 0.0
    return np.asarray(np.abs(one - other) > tolerance)


def _absent(starts: Sequence[int], candles: pa.Table) -> int:
    absent = ~np.isin(np.unique(np.array(starts, np.int64)), candles["start_time"].to_numpy())
    return int(absent.sum())


def _put_together(candles: pa.Table, finer: Interval, interval: Interval) -> tuple[pa.Table, int]:
    """Return candles of an interval made of whole groups of finer ones, and how many were not."""
    if finer is interval or not candles.num_rows:
        return candles, 0
    columns = {name: candles[name].to_numpy() for name in CANDLE_SCHEMA.names}
    groups = columns["start_time"] // interval.milliseconds
    first = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    sizes = np.diff(first, append=len(groups))
    whole = sizes == interval.minutes // finer.minutes
    last = first + sizes - 1
    made = {
        "start_time": groups[first] * interval.milliseconds,
        "open": columns["open"][first],
        "high": np.maximum.reduceat(columns["high"], first),
        "low": np.minimum.reduceat(columns["low"], first),
        "close": columns["close"][last],
        "volume": np.add.reduceat(columns["volume"], first),
        "turnover": np.add.reduceat(columns["turnover"], first),  # NaN, unknown, where one is
    }
    arrays = [pa.array(made[f.name][whole], f.type, from_pandas=True) for f in CANDLE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CANDLE_SCHEMA), int((~whole).sum())
