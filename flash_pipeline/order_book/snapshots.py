"""Snapshots of an order book in one array, and what is missing between them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.errors import DataError
from flash_pipeline.market import iso_utc

SIDES = ("bid", "ask")
"""Order of the side axis."""

BOOK_SCHEMA = pa.schema(
    [
        pa.field("time", pa.int64(), nullable=False),
        pa.field("update_id", pa.int64(), nullable=False),
        pa.field("mid_price", pa.float64(), nullable=False),
        pa.field("tick_size", pa.float64(), nullable=False),
        pa.field("book", pa.list_(pa.float32()), nullable=False),
    ],
    metadata={
        "time": "milliseconds since the epoch, UTC",
        "update_id": "of the exchange, of the newest change in the snapshot",
        "mid_price, tick_size": "quote coin",
        "book": "[levels, sides, 2]: price less mid in ticks, size in the base coin; bid, then "
        "ask, the best level first; NaN where a side has fewer levels",
    },
)
"""Columns of one symbol's snapshots, sorted by `time`, unique; each file's books have one size."""

_MOST_DECIMALS = 12
_SAME = 1e-12  # of a price: float64 keeps it to far less than this
_OFF_TICK = 1e-3  # of a tick: further off is no rounding


@dataclass(frozen=True)
class BookGap:
    """A time in which a book is not known, or known in part."""

    kind: str
    """`missing`: an update id was skipped; `torn`: a line is no JSON; `crossed`: the best bid is
    not below the best ask; `silence`: nothing came for too long; `thin`: a side has fewer levels
    than asked, whose snapshots are kept with NaN; `unanswered`: a poll brought no book."""
    start: int
    """First instant, ms since the epoch, UTC."""
    end: int
    """First instant after it; `start` for a gap whose end the file does not show."""
    detail: str = ""
    """For people."""

    def __str__(self) -> str:
        return f"{self.kind} from {iso_utc(self.start)} to {iso_utc(self.end)}: {self.detail}"


@dataclass(frozen=True)
class BookSeries:
    """Snapshots of one symbol's book, oldest first."""

    symbol: str
    """Instrument."""
    time_T: npt.NDArray[np.int64]
    """Ms since the epoch, UTC."""
    update_T: npt.NDArray[np.int64]
    """Update id of the newest change."""
    mid_T: npt.NDArray[np.float64]
    """Mid price, quote coin."""
    tick_T: npt.NDArray[np.float64]
    """Tick size, quote coin."""
    book_TLS2: npt.NDArray[np.float32]
    """Price less mid in ticks (a multiple of a half, so exact), and size in the base coin."""
    gaps: tuple[BookGap, ...] = ()
    """What is missing."""

    def __len__(self) -> int:
        return len(self.time_T)

    @property
    def levels(self) -> int:
        """Levels of each side."""
        return int(self.book_TLS2.shape[1])

    def price_TLS(self) -> npt.NDArray[np.float64]:
        """Return the prices of the levels in the quote coin; NaN where there is none."""
        away = self.book_TLS2[..., 0].astype(np.float64) * self.tick_T[:, None, None]
        return np.asarray(self.mid_T[:, None, None] + away)

    def between(self, start: int, end: int) -> "BookSeries":
        """Return the snapshots and gaps of a half-open range of time, ms."""
        rows = slice(*np.searchsorted(self.time_T, [start, end]))
        gaps = tuple(gap for gap in self.gaps if gap.start < end and gap.end >= start)
        return BookSeries(
            self.symbol,
            self.time_T[rows],
            self.update_T[rows],
            self.mid_T[rows],
            self.tick_T[rows],
            self.book_TLS2[rows],
            gaps,
        )

    def take_levels(self, levels: int) -> "BookSeries":
        """Return the nearest levels only.

        Raises
        ------
        DataError
            If there are fewer.
        """
        if levels > self.levels:
            raise DataError(
                f"{self.symbol} has {self.levels} levels of each side stored, asked for {levels}: "
                "collect or read it again with more"
            )
        return replace(self, book_TLS2=self.book_TLS2[:, :levels])


def series_of_prices(
    symbol: str,
    time_T: npt.NDArray[np.int64],
    update_T: npt.NDArray[np.int64],
    price_TLS: npt.NDArray[np.float64],
    size_TLS: npt.NDArray[np.float64],
    *,
    tick_size: float,
    gaps: Sequence[BookGap] = (),
) -> BookSeries:
    """Return the series of absolute prices.

    Parameters
    ----------
    price_TLS, size_TLS : array
        Quote and base coin; NaN where a side has fewer levels, never at the first.
    tick_size : float
        Quote coin; every price is a multiple of it.

    Raises
    ------
    DataError
        If a side is empty, the book is crossed, or a price is no multiple of the tick size.
    """
    best = price_TLS[:, 0]
    bad = np.flatnonzero(~(best[:, 0] < best[:, 1]))
    if len(bad):
        t = bad[0]
        raise DataError(
            f"{symbol} at {iso_utc(int(time_T[t]))}: best bid {best[t, 0]} and best ask "
            f"{best[t, 1]}: expected both, the bid below the ask"
        )
    ticks = price_TLS / tick_size
    off = np.flatnonzero((np.abs(ticks - np.rint(ticks)) > _OFF_TICK).any(axis=(1, 2)))
    if len(off):
        raise DataError(
            f"{symbol} at {iso_utc(int(time_T[off[0]]))}: a price is no multiple of the tick "
            f"size {tick_size}"
        )
    ticks = np.rint(ticks)
    mid_ticks = ticks[:, 0].sum(axis=1) / 2
    book = np.empty((*price_TLS.shape, 2), np.float32)
    book[..., 0] = ticks - mid_ticks[:, None, None]
    book[..., 1] = size_TLS
    mid = best.sum(axis=1) / 2
    tick_T = np.full(len(time_T), tick_size)
    return BookSeries(symbol, time_T, update_T, mid, tick_T, book, tuple(gaps))


def empty_series(symbol: str, levels: int, gaps: Sequence[BookGap] = ()) -> BookSeries:
    """Return a series of no snapshots."""
    whole, real = np.empty(0, np.int64), np.empty(0)
    book = np.empty((0, levels, 2, 2), np.float32)
    return BookSeries(symbol, whole, whole, real, real, book, tuple(gaps))


def join_series(parts: Sequence[BookSeries]) -> BookSeries:
    """Return the snapshots of series of one symbol, sorted; of one time the last part's stays.

    Raises
    ------
    DataError
        If they differ in levels.
    """
    sizes = {part.levels for part in parts}
    if len(sizes) > 1:
        raise DataError(
            f"{parts[0].symbol} has snapshots of {sorted(sizes)} levels: expected one number"
        )
    time_T = np.concatenate([part.time_T for part in parts])
    order = np.argsort(time_T, kind="stable")
    kept = order[np.append(np.diff(time_T[order]) > 0, True)] if len(order) else order
    return BookSeries(
        parts[0].symbol,
        time_T[kept],
        np.concatenate([part.update_T for part in parts])[kept],
        np.concatenate([part.mid_T for part in parts])[kept],
        np.concatenate([part.tick_T for part in parts])[kept],
        np.concatenate([part.book_TLS2 for part in parts])[kept],
        tuple(sorted({gap for part in parts for gap in part.gaps}, key=lambda gap: gap.start)),
    )


def tick_size_of(prices: npt.NDArray[np.float64]) -> float:
    """Return the greatest step that all prices are multiples of.

    Parameters
    ----------
    prices : array [n]
        Positive, at least one, of at most twelve decimals. Of a day's levels this is the tick
        size, or a multiple of it where no level was ever off that multiple.

    Examples
    --------
    >>> tick_size_of(np.array([20800.0, 20800.5, 20801.5]))
    0.5
    """
    for decimals in range(_MOST_DECIMALS + 1):
        units = prices * 10.0**decimals
        if (np.abs(units - np.rint(units)) <= _SAME * units).all():
            break
    step = int(np.gcd.reduce(np.rint(units).astype(np.int64)))
    return step / 10.0**decimals
