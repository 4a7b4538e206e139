"""Funding rates of the simulated perpetuals."""

import numpy as np

from flash_pipeline.exchange.simulation.asset import Asset
from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_MS,
    HOUR_MS,
    chunk_at,
    chunk_start,
    random_stream,
)

LARGEST_RATE = 0.00375
"""Bound on a settlement's rate, either way."""

_INTEREST = 0.0001  # per settlement, as on the exchange
_DAMPER = 0.0005
_TREND_HOURS = 72
_TREND_SHARE = 0.004  # of a past log return that the premium keeps
_NOISE = 0.0002


def funding_rate(asset: Asset, seed: int, time_ms: int) -> float:
    """Return the rate of the settlement at `time_ms`, from prices up to then.

    The premium index is noise around a share of the last three days' log return: longs pay after
    a rise. The rate is premium + clamp(interest - premium, +-0.05 %), as the exchange defines it,
    so a quiet market pays exactly the interest, 0.01 %.

    Returns
    -------
    float
        Fraction of the position's value, rounded to 8 decimals, at most `LARGEST_RATE`.
    """
    earliest = chunk_start(chunk_at(asset.spec.instrument.launch_ms))
    before = max(time_ms - _TREND_HOURS * HOUR_MS, earliest)
    trend = _log_price(asset, time_ms) - _log_price(asset, before)
    noise = random_stream(seed, asset.symbol, "funding", time_ms // HOUR_MS).standard_normal()
    premium = _TREND_SHARE * trend + _NOISE * noise
    rate = premium + np.clip(_INTEREST - premium, -_DAMPER, _DAMPER)
    return round(float(np.clip(rate, -LARGEST_RATE, LARGEST_RATE)), 8)


def _log_price(asset: Asset, time_ms: int) -> float:
    """Return the log price at the start of the hour that contains an instant."""
    hours = asset.hours[chunk_at(time_ms)]
    return float(hours.log_price[(time_ms - chunk_start(0)) % CHUNK_MS // HOUR_MS])
