"""One asset's price and activity, hour by hour."""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_HOURS,
    Chain,
    Floats,
    autoregress,
    chunk_at,
    random_stream,
)
from flash_pipeline.exchange.simulation.factor import Factor
from flash_pipeline.exchange.simulation.seasonality import VOLUME_PROFILE, hours_of_week

_PULL = np.log(2) / (3 * 8760)  # towards the anchor, per hour: a half-life of three years
_VOLUME_MEMORY, _VOLUME_SD = 0.985, 0.35  # log-volume that volatility does not explain
_VOLUME_NOISE = 0.2  # and the part of it without a memory
_VOLUME_ELASTICITY = 0.4  # of volume to variance: 0.8 to the standard deviation
_KEPT_CHUNKS = 4  # of hours, 30 KB each: what bounds the memory of hundreds of assets


@dataclass(frozen=True)
class AssetSpec:
    """How a simulated asset behaves."""

    instrument: Instrument
    """The contract that trades it."""
    anchor: float
    """Price at which it starts and towards which it is weakly pulled, quote coin."""
    beta: float
    """Log return per log return of the market."""
    volatility: float
    """Yearly standard deviation of what the market does not explain."""
    daily_turnover: float
    """Typical value traded in a day, quote coin."""


@dataclass(frozen=True)
class AssetHours:
    """An asset's hours of one chunk."""

    log_price: Floats
    """Natural log of the price at the start of each hour and at the chunk's end, [hours + 1]."""
    variance: Floats
    """Variance of the log return of each hour, [hours]."""
    turnover: Floats
    """Expected value traded in each hour, quote coin, [hours]."""


class Asset:
    """A seeded asset: beta times the market factor, and a factor of its own.

    The drift of the log price is minus half the variance, so that the expected simple return is
    zero at the anchor. A pull towards the anchor with a half-life of three years keeps ten years
    of prices in a range that the tick size fits; who knew the anchor could forecast the next day
    with a correlation of about 0.02 from it, and the last weeks of candles do not show it.

    Volume follows volatility with an elasticity of 0.8 (the mixture of distributions: Tauchen and
    Pitts, Econometrica, 1983) and has a seasonality and a memory of its own.

    Parameters
    ----------
    seed : int
        Seed of the market.
    spec : AssetSpec
        What to simulate.
    market : Factor
        The factor that all assets share.
    """

    def __init__(self, seed: int, spec: AssetSpec, market: Factor) -> None:
        self.spec = spec
        self.market = market
        self._seed = seed
        first_chunk = chunk_at(spec.instrument.launch_ms)
        # Minutes of the own factor are read once, when the candles are made.
        self.own = Factor(
            seed, self.symbol, spec.volatility, first_chunk, kept=_KEPT_CHUNKS, kept_bridges=0
        )
        self._typical = spec.beta**2 * market.hourly_variance + self.own.hourly_variance
        initial = (float(np.log(spec.anchor)), 0.0)
        self.hours = Chain(first_chunk, initial, self._extend, _KEPT_CHUNKS)

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.spec.instrument.symbol

    def _extend(
        self, chunk: int, state: tuple[float, float]
    ) -> tuple[AssetHours, tuple[float, float]]:
        log_price, log_volume = state
        market, own = self.market.hours[chunk], self.own.hours[chunk]
        variance = self.spec.beta**2 * market.variance + own.variance
        moves = self.spec.beta * market.returns + own.returns - variance / 2
        anchor = float(np.log(self.spec.anchor))
        ahead = anchor + autoregress(moves, 1 - _PULL, log_price - anchor)
        activity = self._activity(chunk, log_volume)
        hours = AssetHours(
            log_price=np.concatenate([[log_price], ahead]),
            variance=variance,
            turnover=self.spec.daily_turnover
            / 24
            * VOLUME_PROFILE[hours_of_week(chunk)]
            * (variance / self._typical) ** _VOLUME_ELASTICITY
            * np.exp(activity.sum(axis=0)),
        )
        return hours, (float(ahead[-1]), float(activity[0, -1]))

    def _activity(self, chunk: int, previous: float) -> Floats:
        """Return the log-volume with and without a memory that volatility leaves, [2, hours]."""
        random = random_stream(self._seed, self.symbol, "volume", chunk)
        lasting, passing = random.standard_normal((2, CHUNK_HOURS))
        scale = _VOLUME_SD * np.sqrt(1 - _VOLUME_MEMORY**2)
        return np.stack(
            [autoregress(lasting * scale, _VOLUME_MEMORY, previous), passing * _VOLUME_NOISE]
        )
