"""The snapshots of the day under way, line by line, until they are folded into its Parquet file.

    order_book/symbol=BTCUSDT/day=2026-03-10.journal

Each line is a snapshot as Bybit's stream writes it, appended by one write: what was appended is
the system's, however this process ends. A line cut short by a power failure is left out. Folding
writes the Parquet file whole before it removes the journal, so a kill in between leaves the
snapshots in both, and folding again changes nothing.
"""

import json
import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Self

import numpy as np

from flash_pipeline.bybit import BookAnswer
from flash_pipeline.errors import HomeNotWritable
from flash_pipeline.order_book.lines import Lines, parse_lines
from flash_pipeline.order_book.snapshots import (
    BookGap,
    BookSeries,
    series_of_prices,
    tick_size_of,
)
from flash_pipeline.order_book.store import BookStore, day_of

_OFF_TICK = 1e-3  # of a tick: further off is no rounding

_LATE = 1.5  # cadences between two snapshots that say that a poll brought none


class Journal:
    """Appends the snapshots of one symbol; its files change with the day.

    Parameters
    ----------
    store : BookStore
        Beside whose files it writes.
    symbol : str
        Instrument.
    """

    def __init__(self, store: BookStore, symbol: str) -> None:
        self._store = store
        self._symbol = symbol
        self._file: int | None = None
        self.day: date | None = None
        """Day of the open file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, book: BookAnswer, levels: int) -> None:
        """Write a snapshot of the open file's day, or open that of another day.

        Raises
        ------
        HomeNotWritable
            If it cannot be written, as on a full disk.
        """
        day = day_of(book.time)
        path = journal_path(self._store, self._symbol, day)
        try:
            if day != self.day or self._file is None:
                self.close()
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                self.day = day
                _end_line(path, self._file)
            line = _line(book, levels)
            if os.write(self._file, line) != len(line):
                raise HomeNotWritable(f"{path} cannot be written: the disk is full")
        except OSError as error:
            raise HomeNotWritable(f"{path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the open file, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file, self.day = None, None


def journal_path(store: BookStore, symbol: str, day: date) -> Path:
    """Return the journal of a symbol's day; it need not exist."""
    return store.path(symbol, day).with_suffix(".journal")


def fold_journals(
    store: BookStore,
    symbol: str,
    *,
    levels: int,
    cadence_ms: int,
    tick_size: float,
    synthetic: bool,
) -> int:
    """Move the snapshots of a symbol's journals into the day files, and return how many.

    Parameters
    ----------
    levels : int
        Of each side. A side that has fewer is filled up with NaN, and a gap says so. A snapshot
        that is crossed, as the exchange may answer for an instant, is left out as a gap.
    cadence_ms : int
        Where more than one and a half of it lie between two snapshots, a gap says so.
    tick_size : float
        Quote coin; where prices do not fit it, as after a change, their own step is taken.

    Raises
    ------
    DataError
        If a journal was changed by something else, or a stored day has other levels. It stays.
    """
    folder = store.path(symbol, date(2020, 1, 1)).parent
    moved = 0
    for path in sorted(folder.glob("day=*.journal")):
        text = path.read_bytes()
        lines = parse_lines(text, 1, source=str(path), symbol=symbol, keep_torn=True)
        if len(lines.time):
            series = _series(lines, symbol, levels, tick_size)
            whole = _with_pauses(store.with_stored(series), cadence_ms)
            store.write(whole, synthetic=synthetic)
            moved += len(series)
        path.unlink()
    return moved


def _line(book: BookAnswer, levels: int) -> bytes:
    whole = {
        "topic": f"orderbook.{levels}.{book.symbol}",
        "ts": book.time,
        "type": "snapshot",
        "data": {"s": book.symbol, "b": book.bids, "a": book.asks, "u": book.update_id},
    }
    return json.dumps(whole, separators=(",", ":")).encode() + b"\n"


def _end_line(path: Path, file: int) -> None:
    """Keep a line that was cut short from taking the next one along."""
    text = path.read_bytes()[-1:]
    if text not in (b"", b"\n"):
        os.write(file, b"\n")


def _series(lines: Lines, symbol: str, levels: int, tick_size: float) -> BookSeries:
    """Return the snapshots of a journal, one a line."""
    count = len(lines.time)
    price = np.full((count, levels, 2), np.nan)
    size = np.full((count, levels, 2), np.nan)
    for i, side in enumerate(lines.sides):
        place = np.arange(len(side.line)) - np.searchsorted(side.line, side.line)
        kept = place < levels
        price[side.line[kept], place[kept], i] = side.price[kept]
        size[side.line[kept], place[kept], i] = side.size[kept]
    newest = int(lines.time[-1])
    gaps = [BookGap("torn", newest, newest, f"line {number}") for number in lines.torn]
    thin = np.isnan(price[:, -1]).any(axis=1)
    if thin.any():
        first, last = lines.time[thin][[0, -1]]
        detail = f"{int(thin.sum())} snapshots with fewer than {levels} levels on a side"
        gaps.append(BookGap("thin", int(first), int(last), detail))
    best = price[:, 0]
    crossed = best[:, 0] >= best[:, 1]
    if crossed.any():
        first, last = lines.time[crossed][[0, -1]]
        detail = f"{int(crossed.sum())} snapshots whose best bid is not below the best ask"
        gaps.append(BookGap("crossed", int(first), int(last), detail))
    known = ~np.isnan(best).any(axis=1) & ~crossed
    prices = price[known][~np.isnan(price[known])]
    ticks = prices / tick_size
    if len(prices) and (np.abs(ticks - np.rint(ticks)) > _OFF_TICK).any():
        tick_size = tick_size_of(np.unique(prices))
    return series_of_prices(
        symbol,
        lines.time[known],
        lines.update[known],
        price[known],
        size[known],
        tick_size=tick_size,
        gaps=gaps,
    )


def _with_pauses(series: BookSeries, cadence_ms: int) -> BookSeries:
    """Return a series with the times in which no snapshot was taken among its gaps."""
    late = np.flatnonzero(np.diff(series.time_T) > _LATE * cadence_ms)
    pauses = [BookGap("unanswered", int(series.time_T[i]), int(series.time_T[i + 1])) for i in late]
    others = [gap for gap in series.gaps if gap.kind != "unanswered"]
    return replace(series, gaps=tuple(sorted([*others, *pauses], key=lambda gap: gap.start)))
