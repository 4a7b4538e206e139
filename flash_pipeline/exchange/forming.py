"""A candle under way, made up from the recorded one that it will become."""

import numpy as np

from flash_pipeline.exchange.candles import Candles, Column
from flash_pipeline.exchange.instruments import Instrument, Step

_MOST_VOLUME_DECIMALS = 8


def partial_candle(final: Candles, elapsed: float, instrument: Instrument) -> Candles:
    """Return what a candle may have looked like when a part of its time had gone by.

    A recording holds final candles only. High, low and close lie between the open and their
    final values, in proportion to the time gone by and rounded to the tick; the volume is the
    final one's part, rounded down, so that it is smaller whenever there was any. A forecast that
    reads the forming candle of a replay therefore looks ahead: it must not be read as closed.

    Parameters
    ----------
    final : Candles
        One candle.
    elapsed : float
        Part of its time that has gone by, in [0, 1).
    instrument : Instrument
        Gives the tick and the quantity step.

    Returns
    -------
    Candles
        One candle; its turnover over its volume lies between its low and its high.
    """
    tick, step = Step.of(instrument.tick_size), Step.of(instrument.quantity_step)
    high, low, close = (
        np.round(final.open + (column - final.open) * elapsed, tick.decimals)
        for column in (final.high, final.low, final.close)
    )
    high, low = np.clip(high, final.open, final.high), np.clip(low, final.low, final.open)
    decimals = min(step.decimals, _MOST_VOLUME_DECIMALS)
    volume = np.floor(final.volume * elapsed * 10.0**decimals) / 10.0**decimals
    turnover = volume * np.clip(_average_price(final), low, high)
    close = np.clip(close, low, high)
    return Candles(final.start_time, final.open, high, low, close, volume, turnover)


def _average_price(candle: Candles) -> Column:
    """Return the volume-weighted price; NaN without a turnover or a volume."""
    volume = np.where(candle.volume > 0, candle.volume, np.nan)
    average: Column = candle.turnover / volume
    return average
