"""Mark prices: close to the last price, as a function of the symbol and the time alone."""

from zlib import crc32

import numpy as np

from flash_pipeline.exchange.candles import Candles, Column
from flash_pipeline.exchange.instruments import Instrument, Step
from flash_pipeline.market import Interval

_LARGEST_BASIS = 3e-4  # of the last price, either way
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def mark_columns(
    candles: Candles, interval: Interval, instrument: Instrument
) -> tuple[Column, Column, Column, Column, Column]:
    """Return start, open, high, low and close of the mark price, each [candles].

    Opens and closes are the last price's, moved by the basis at that instant; so intervals agree
    on them, as they do on the last price. The high and the low are moved by the mean of both.

    Parameters
    ----------
    candles : Candles
        Of the last price, in coins; the forming one's close is moved by the basis at its end.
    interval : Interval
        Their length.
    instrument : Instrument
        Its tick is what prices are rounded to.
    """
    start = candles.start_time
    at_open, at_close = (
        1 + basis(instrument.symbol, times) for times in (start, start + interval.milliseconds)
    )
    between = (at_open + at_close) / 2
    open_, high, low, close = (
        _on_tick(prices, instrument)
        for prices in (
            candles.open * at_open,
            candles.high * between,
            candles.low * between,
            candles.close * at_close,
        )
    )
    high = np.maximum.reduce([high, open_, close])
    low = np.minimum.reduce([low, open_, close])
    return start, open_, high, low, close


def mark_price(last_price: float, instrument: Instrument, now_ms: int) -> float:
    """Return the mark price beside a last price, at an instant in ms since the epoch."""
    factor = 1 + basis(instrument.symbol, np.array([now_ms]))
    return float(_on_tick(last_price * factor, instrument)[0])


def basis(symbol: str, times: Column) -> Column:
    """Return mark over last price less one, at each time (ms): bounded noise without a memory.

    The noise is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014) of symbol and time, so that no state has to be kept.
    """
    z = times.astype(np.uint64) + np.uint64(crc32(symbol.encode()) << 32) + np.uint64(_MIX[0])
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_MIX[1])
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_MIX[2])
    uniform: Column = (z ^ (z >> np.uint64(31))) / 2.0**64
    return (2 * uniform - 1) * _LARGEST_BASIS


def _on_tick(prices: Column, instrument: Instrument) -> Column:
    tick = Step.of(instrument.tick_size)
    counts = np.maximum(np.rint(prices * 10.0**tick.decimals / tick.units), 1)
    rounded: Column = counts * tick.units / 10.0**tick.decimals
    return rounded
