"""An order book as it is answered, and the touch that tickers show around the last price."""

from dataclasses import dataclass
from decimal import Decimal
from zlib import crc32

import numpy as np

from flash_pipeline.exchange.candles import Column
from flash_pipeline.exchange.decimals import decimal_text
from flash_pipeline.exchange.instruments import Instrument, Step

_MEAN_NOTIONAL = 20_000.0  # quote coin resting at a level near the touch
_GAP = 0.7  # probability that the next level is one tick away

Level = list[str]


@dataclass(frozen=True)
class Book:
    """Both sides of a book, the best level first; a level is `[price, size]`."""

    bids: list[Level]
    """Descending in price."""
    asks: list[Level]
    """Ascending in price."""


def make_book(instrument: Instrument, last_price: float, now_ms: int, depth: int) -> Book:
    """Return a plausible book: a pure function of its arguments.

    The spread is one tick and the last price lies on one of its sides; gaps between levels are
    geometric, sizes are exponential and grow away from the touch (Bouchaud, Mezard and Potters,
    "Statistical properties of stock order books", Quantitative Finance, 2002). A smaller depth
    gives the first levels of a greater one. Below one tick there is no bid.

    Parameters
    ----------
    instrument : Instrument
        Gives the steps and, by its name, the randomness.
    last_price : float
        Quote coin, positive.
    now_ms : int
        Instant of the snapshot, ms since the epoch.
    depth : int
        Levels of each side at most.
    """
    random = np.random.default_rng((crc32(instrument.symbol.encode()), now_ms))
    last = max(1, round(Decimal(repr(last_price)) / instrument.tick_size))
    best_ask = last + int(random.integers(0, 2))
    sides = random.random(2)
    bid_random, ask_random = (np.random.default_rng((int(s * 2**53), now_ms)) for s in sides)
    return Book(
        bids=_side(bid_random, instrument, best_ask - 1, -1, depth),
        asks=_side(ask_random, instrument, best_ask, 1, depth),
    )


def _side(
    random: np.random.Generator, instrument: Instrument, best: int, direction: int, depth: int
) -> list[Level]:
    """Return the levels from the `best` price, in ticks, outwards."""
    draws = random.random((depth, 2))  # row by row, so that a smaller depth draws the same
    gaps = 1 + np.floor(np.log1p(-draws[:, 0]) / np.log1p(-_GAP)).astype(np.int64)
    gaps[:1] = 0
    ticks = best + direction * np.cumsum(gaps)
    tick, step = Step.of(instrument.tick_size), Step.of(instrument.quantity_step)
    prices: Column = ticks * tick.units / 10.0**tick.decimals
    notional = -np.log1p(-draws[:, 1]) * _MEAN_NOTIONAL * np.sqrt(np.arange(1, depth + 1))
    worth = float(instrument.quantity_step) * np.maximum(prices, float(instrument.tick_size))
    sizes = np.maximum(np.rint(notional / worth), 1) * step.units / 10.0**step.decimals
    kept = ticks >= 1
    rows = zip(prices[kept].tolist(), sizes[kept].tolist(), strict=True)
    return [[decimal_text(price), decimal_text(size)] for price, size in rows]
