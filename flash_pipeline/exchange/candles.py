"""Columns of candles, and how finer ones make up coarser ones."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from flash_pipeline.exchange.instruments import Instrument, Step
from flash_pipeline.market import Interval

Column: TypeAlias = npt.NDArray[Any]
"""One value per candle: float64 in coins, or int64 in ticks and quantity steps."""


@dataclass(frozen=True)
class Candles:
    """Candles of one symbol and interval, oldest first, unique by start.

    All columns have the shape [candles]. In coins they are float64, where a turnover of NaN
    means that the source has none; `in_coins` makes them from int64 counts of ticks and steps.
    """

    start_time: Column
    """Candle open, ms since the epoch, UTC."""
    open: Column
    """First price."""
    high: Column
    """Highest price."""
    low: Column
    """Lowest price."""
    close: Column
    """Last price."""
    volume: Column
    """Quantity traded, base coin."""
    turnover: Column
    """Value traded, quote coin."""

    def __len__(self) -> int:
        return len(self.start_time)

    def __getitem__(self, rows: slice) -> "Candles":
        return Candles(*(column[rows] for column in self.columns()))

    def columns(self) -> tuple[Column, ...]:
        """Return the seven columns in the order of a kline row."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def between(self, first: int, last: int) -> "Candles":
        """Return the candles that start at `first` to `last` (ms), both included."""
        low, high = np.searchsorted(self.start_time, [first, last + 1])
        return self[int(low) : max(int(low), int(high))]

    def aggregate(self, interval: Interval) -> "Candles":
        """Return the coarser candles that these make up.

        A coarse candle of which some fine ones are absent is made of the others; its turnover
        is NaN where one of theirs is.
        """
        return self.grouped(self.start_time - self.start_time % interval.milliseconds)

    def grouped(self, starts: Column) -> "Candles":
        """Return one candle of all those that share a start; absent ones count as in `aggregate`.

        Parameters
        ----------
        starts : array [candles]
            Start of the coarse candle that each belongs to, ms, not decreasing.
        """
        if not len(self):
            return self
        first = np.flatnonzero(np.diff(starts, prepend=starts[0] - 1))
        last = np.append(first[1:], len(starts)) - 1
        return Candles(
            start_time=starts[first],
            open=self.open[first],
            high=np.maximum.reduceat(self.high, first),
            low=np.minimum.reduceat(self.low, first),
            close=self.close[last],
            volume=np.add.reduceat(self.volume, first),
            turnover=np.add.reduceat(self.turnover, first),
        )

    def in_coins(self, instrument: Instrument) -> "Candles":
        """Return these candles, which count ticks and quantity steps, in coins."""
        tick, step = Step.of(instrument.tick_size), Step.of(instrument.quantity_step)
        return Candles(
            start_time=self.start_time,
            open=_scaled(self.open, tick),
            high=_scaled(self.high, tick),
            low=_scaled(self.low, tick),
            close=_scaled(self.close, tick),
            volume=_scaled(self.volume, step),
            turnover=_scaled(self.turnover, tick.times(step)),
        )


NO_CANDLES = Candles(np.array([], dtype=np.int64), *(np.array([]) for _ in range(6)))
"""Candles of a symbol that is not listed yet."""


def join_candles(parts: Sequence[Candles]) -> Candles:
    """Return the parts, one after the other; at least one part."""
    columns = zip(*(part.columns() for part in parts), strict=True)
    return Candles(*(np.concatenate(column) for column in columns))


def _scaled(counts: Column, step: Step) -> Column:
    # Dividing by a power of ten rounds once, so the float's shortest text is the exact decimal.
    scaled: Column = (counts * step.units) / 10.0**step.decimals
    return scaled
