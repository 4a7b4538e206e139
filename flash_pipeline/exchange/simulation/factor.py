"""A source of returns with volatility of its own: the market as a whole, or one asset's rest.

The hourly variance is a log-normal stochastic volatility with a slow and a fast part (Taylor,
"Modelling Financial Time Series", 1986; two scales as in Alizadeh, Brandt and Diebold, Journal of
Finance, 2002), times the seasonality, times an inverse-gamma mixing variable that makes the
returns Student t (Praetz, Journal of Business, 1972). Given the variances the returns are
Gaussian and the path inside an hour is a Brownian motion of the same variance. So the sign of a
return is independent of everything before it: there is nothing to predict but the volatility.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flash_pipeline.exchange.simulation.chunks import (
    CHUNK_HOURS,
    Chain,
    Floats,
    autoregress,
    random_stream,
)
from flash_pipeline.exchange.simulation.seasonality import VOLATILITY_PROFILE, hours_of_week

_HOURS_PER_YEAR = 8760
_SLOW, _SLOW_SD = 0.998, 0.45  # log-volatility with a half-life of 14 days
_FAST, _FAST_SD = 0.97, 0.35  # and one of 23 hours
_LOG_VARIANCE = _SLOW_SD**2 + _FAST_SD**2
_FREEDOM = 5.0  # degrees of freedom of the Student t
_LARGEST_MIXING = 40.0  # keeps the worst hour below a crash that no exchange has seen


@dataclass(frozen=True)
class FactorHours:
    """A factor's hours of one chunk."""

    variance: Floats
    """Variance of the log return of each hour, [hours]."""
    returns: Floats
    """Log return over each hour, [hours]."""


class Factor:
    """A seeded source of hourly returns and of the minutes inside them.

    Parameters
    ----------
    seed : int
        Seed of the market.
    name : str
        Owner of the random streams; two factors of one name are the same factor.
    volatility : float
        Yearly standard deviation of its log returns: 0.5 for 50 %.
    first_chunk : int
        Where it begins, with a draw from the stationary distribution.
    kept : int or None
        Chunks of hours remembered; None for all of them.
    kept_bridges : int
        Chunks of minutes remembered: 0.35 MB each.
    """

    def __init__(
        self,
        seed: int,
        name: str,
        volatility: float,
        first_chunk: int = 0,
        *,
        kept: int | None = None,
        kept_bridges: int = 16,
    ) -> None:
        self._seed = seed
        self._name = name
        self.hourly_variance = volatility**2 / _HOURS_PER_YEAR
        start = random_stream(seed, name, "start", 0).standard_normal(2)
        initial = (float(start[0]) * _SLOW_SD, float(start[1]) * _FAST_SD)
        self.hours = Chain(first_chunk, initial, self._extend, kept)
        self.bridge = lru_cache(maxsize=kept_bridges)(self._bridge)

    def _extend(
        self, chunk: int, state: tuple[float, float]
    ) -> tuple[FactorHours, tuple[float, float]]:
        random = random_stream(self._seed, self._name, "hours", chunk)
        slow_noise, fast_noise, shock = random.standard_normal((3, CHUNK_HOURS))
        slow = autoregress(slow_noise * _SLOW_SD * np.sqrt(1 - _SLOW**2), _SLOW, state[0])
        fast = autoregress(fast_noise * _FAST_SD * np.sqrt(1 - _FAST**2), _FAST, state[1])
        mixing = (_FREEDOM - 2) / random.chisquare(_FREEDOM, CHUNK_HOURS)
        variance = (
            self.hourly_variance
            * VOLATILITY_PROFILE[hours_of_week(chunk)] ** 2
            * np.exp(2 * (slow + fast - _LOG_VARIANCE))  # E exp(2 (x - var x)) = 1
            * np.minimum(mixing, _LARGEST_MIXING)
        )
        hours = FactorHours(variance, np.sqrt(variance) * shock)
        return hours, (float(slow[-1]), float(fast[-1]))

    def _bridge(self, chunk: int) -> Floats:
        """Return the Brownian bridges inside a chunk's hours.

        Returns
        -------
        array [hours, 60]
            Log deviation, at the end of each minute, from the straight line through the hour's
            ends; 0 at the last minute. Adding line and bridge gives a Brownian motion.
        """
        random = random_stream(self._seed, self._name, "minutes", chunk)
        steps = random.standard_normal((CHUNK_HOURS, 60))
        steps -= steps.mean(axis=1, keepdims=True)
        steps *= np.sqrt(self.hours[chunk].variance / 60)[:, None]
        path = np.cumsum(steps, axis=1)
        path[:, -1] = 0.0
        return path
