"""The simulated price ten times a second: a Brownian bridge between the ends of its minutes.

The log price at the end of every minute is that of the candles; in between it moves as a Brownian
motion of the hour's variance would, given both ends. So a book that follows this path agrees with
the candles at each minute, and its path is a Brownian motion like theirs. A minute's high and low
are drawn apart from it (see `minutes`), so the path may leave them by a little.
"""

from functools import lru_cache

import numpy as np

from flash_pipeline.exchange.simulation.asset import Asset
from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_MS,
    HOUR_MS,
    ORIGIN_MS,
    Floats,
    chunk_at,
    chunk_start,
    random_stream,
)
from flash_pipeline.exchange.simulation.minutes import log_path
from flash_pipeline.market.interval import MINUTE_MS

STEP_MS = 100
"""Milliseconds of a step: so often Bybit sends the changes of a book."""

HOUR_STEPS = HOUR_MS // STEP_MS
"""Steps of an hour."""

_MINUTE_STEPS = MINUTE_MS // STEP_MS
_KEPT_HOURS = 6  # 0.3 MB each
_KEPT_CHUNKS = 2  # of the ends of minutes: 0.35 MB each


class PricePath:
    """The log price of an asset at every step, a pure function of seed, symbol and time.

    Parameters
    ----------
    asset : Asset
        Whose price.
    seed : int
        Seed of the market.
    """

    def __init__(self, asset: Asset, seed: int) -> None:
        self._asset = asset
        self._seed = seed
        self._first = chunk_start(chunk_at(asset.spec.instrument.launch_ms)) // HOUR_MS
        self._hour = lru_cache(maxsize=_KEPT_HOURS)(self._make_hour)
        self._ends = lru_cache(maxsize=_KEPT_CHUNKS)(self._make_ends)

    def between(self, first: int, last: int) -> tuple[Floats, Floats]:
        """Return log prices and the standard deviation of a step's return.

        Parameters
        ----------
        first, last : int
            Steps since the epoch, the last one excluded. Before the month of the listing the
            price stands still.

        Returns
        -------
        log_price, deviation : array [steps]
        """
        hours = range(first // HOUR_STEPS, (last - 1) // HOUR_STEPS + 1)
        parts = [self._hour(max(hour, self._first)) for hour in hours]
        offset = first - hours[0] * HOUR_STEPS
        price = [
            path if hour >= self._first else np.full(HOUR_STEPS, path[0])
            for hour, (path, _) in zip(hours, parts, strict=True)
        ]
        deviation = np.repeat([sd for _, sd in parts], HOUR_STEPS)
        window = slice(offset, offset + last - first)
        return np.concatenate(price)[window], deviation[window]

    def _make_hour(self, hour: int) -> tuple[Floats, float]:
        chunk = chunk_at(hour * HOUR_MS)
        within = hour - chunk_start(chunk) // HOUR_MS
        ends = self._ends(chunk)[within * 60 : within * 60 + 61]
        variance = float(self._asset.hours[chunk].variance[within])
        random = random_stream(self._seed, self._asset.symbol, "steps", hour)
        steps = random.standard_normal((60, _MINUTE_STEPS))
        steps -= steps.mean(axis=1, keepdims=True)
        deviation = float(np.sqrt(variance / HOUR_STEPS))
        path = np.zeros((60, _MINUTE_STEPS))
        path[:, 1:] = np.cumsum(steps, axis=1)[:, :-1] * deviation
        path += ends[:-1, None] + np.diff(ends)[:, None] * (
            np.arange(_MINUTE_STEPS) / _MINUTE_STEPS
        )
        return path.ravel(), deviation

    def _make_ends(self, chunk: int) -> Floats:
        assert (ORIGIN_MS + chunk * CHUNK_MS) % HOUR_MS == 0
        return log_path(self._asset, chunk)
