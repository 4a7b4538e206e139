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
    sector: str = ""
    """Name of the sector whose factor it shares; empty for none."""
    sector_beta: float = 0.0
    """Log return per log return of the sector."""


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
    """A seeded asset: beta times the market factor, a share of its sector's, and one of its own.

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
    sector : Factor or None
        That of its sector; None for an asset of no sector.
    """

    def __init__(
        self, seed: int, spec: AssetSpec, market: Factor, sector: Factor | None = None
    ) -> None:
        self.spec = spec
        self.market = market
        self._seed = seed
        self._shared = [(spec.beta, market)]
        if sector is not None:
            self._shared.append((spec.sector_beta, sector))
        first_chunk = chunk_at(spec.instrument.launch_ms)
        # Minutes of the own factor are read once, when the candles are made.
        self.own = Factor(
            seed, self.symbol, spec.volatility, first_chunk, kept=_KEPT_CHUNKS, kept_bridges=0
        )
        self._typical = self.hourly_variance
        initial = (float(np.log(spec.anchor)), 0.0)
        self.hours = Chain(first_chunk, initial, self._extend, _KEPT_CHUNKS)

    @property
    def symbol(self) -> str:
        """The instrument's symbol."""
        return self.spec.instrument.symbol

    @property
    def hourly_variance(self) -> float:
        """Typical variance of an hour's log return."""
        shared = sum(beta**2 * factor.hourly_variance for beta, factor in self._shared)
        return shared + self.own.hourly_variance

    def bridge(self, chunk: int) -> Floats:
        """Return the bridges inside a chunk's hours, [hours, 60]: see `Factor.bridge`."""
        shared = sum(beta * factor.bridge(chunk) for beta, factor in self._shared)
        return np.asarray(shared + self.own.bridge(chunk))

    def _extend(
        self, chunk: int, state: tuple[float, float]
    ) -> tuple[AssetHours, tuple[float, float]]:
        log_price, log_volume = state
        shared = [(beta, factor.hours[chunk]) for beta, factor in self._shared]
        own = self.own.hours[chunk]
        variance = sum(beta**2 * hours.variance for beta, hours in shared) + own.variance
        moves = sum(beta * hours.returns for beta, hours in shared) + own.returns - variance / 2
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
