"""One-minute candles inside the simulated hours: what every coarser candle is made of."""

import numpy as np
import numpy.typing as npt

from flash_pipeline.exchange.candles import Candles, Column
from flash_pipeline.exchange.simulation.asset import Asset
from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_HOURS,
    Floats,
    chunk_start,
    random_stream,
)
from flash_pipeline.market.interval import MINUTE_MS

_MINUTES = CHUNK_HOURS * 60
_LEAST_VOLUME = 2  # steps: the least that leaves a turnover strictly between low and high
_ELAPSED = np.arange(1, 61) / 60  # of an hour, at the end of each of its minutes
Counts = npt.NDArray[np.int64]


def minute_candles(asset: Asset, seed: int, chunk: int) -> Candles:
    """Return the one-minute candles of a chunk, in ticks and quantity steps (int64).

    Integers make the candles of all intervals agree exactly. Before the launch a candle holds the
    launch price and no volume, and is not to be served. Each candle spans at least one tick, and
    `low * volume < turnover < high * volume` holds strictly, so also for the rounded floats.
    """
    instrument = asset.spec.instrument
    random = random_stream(seed, asset.symbol, "candles", chunk)
    path = log_path(asset, chunk)
    sigma = np.sqrt(np.repeat(asset.hours[chunk].variance, 60) / 60)
    tick = float(instrument.tick_size)
    closes = _in_ticks(path, tick)
    open_ = np.maximum(closes[:-1] + _gaps(random), 1)
    close = closes[1:]
    high, low = _extremes(random, path, sigma, tick)
    high = np.maximum.reduce([high, open_, close])
    low = np.minimum.reduce([low, open_, close])
    high = np.where(high == low, low + 1, high)
    hourly = np.repeat(asset.hours[chunk].turnover, 60)
    surprise = np.abs(np.diff(path)) / sigma
    spent = hourly / 60 * (0.5 + 0.6 * surprise)
    spent *= 0.25 + 0.75 * random.standard_exponential(_MINUTES)
    quantity = spent / (close * tick) / float(instrument.quantity_step)
    volume = np.maximum(np.rint(quantity).astype(np.int64), _LEAST_VOLUME)
    turnover = volume * (open_ + high + low + close) // 4
    turnover = np.clip(turnover, low * volume + 1, high * volume - 1)
    start = chunk_start(chunk) + np.arange(_MINUTES) * MINUTE_MS
    candles = Candles(start, open_, high, low, close, volume, turnover)
    return _blank_before(candles, instrument.launch_ms)


def log_path(asset: Asset, chunk: int) -> Floats:
    """Return the log price at the chunk's start and at the end of each minute, [minutes + 1]."""
    log_price = asset.hours[chunk].log_price
    path = asset.bridge(chunk)
    path += log_price[:-1, None] + np.diff(log_price)[:, None] * _ELAPSED
    return np.concatenate([log_price[:1], path.ravel()])


def _extremes(
    random: np.random.Generator, path: Floats, sigma: Floats, tick: float
) -> tuple[Counts, Counts]:
    """Draw each minute's high and low, in ticks, given the prices at its ends.

    The maximum of a Brownian bridge from a to b of variance s^2 is distributed as
    (a + b + sqrt((b - a)^2 + 2 s^2 E)) / 2 with E a standard exponential (Karatzas and Shreve,
    "Brownian Motion and Stochastic Calculus", 1991, section 4.3.C).
    """
    middle = (path[:-1] + path[1:]) / 2
    span = np.diff(path) ** 2
    noise = random.standard_exponential((2, _MINUTES)) * (2 * sigma**2)
    reach = np.sqrt(span + noise) / 2
    return _in_ticks(middle + reach[0], tick), _in_ticks(middle - reach[1], tick)


def _gaps(random: np.random.Generator) -> Counts:
    """Return the ticks between a close and the next open: in 1 minute of 64 it is one tick."""
    die = random.integers(0, 256, _MINUTES, dtype=np.uint8)
    return (die >= 254).astype(np.int64) - (die < 2)


def _in_ticks(log_price: Floats, tick: float) -> Counts:
    return np.maximum(np.rint(np.exp(log_price) / tick).astype(np.int64), 1)


def _blank_before(candles: Candles, launch_ms: int) -> Candles:
    """Put the launch price and no volume in the minutes before the launch."""
    blank = int(np.searchsorted(candles.start_time, launch_ms))
    if blank in (0, len(candles)):
        return candles
    price = candles.open[blank]
    columns: list[Column] = [candles.start_time]
    for value, column in zip((price,) * 4 + (0, 0), candles.columns()[1:], strict=True):
        column[:blank] = value
        columns.append(column)
    return Candles(*columns)
