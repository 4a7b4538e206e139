"""How sure a measure is: stationary block bootstrap, and t-values of overlapping labels.

Shape letters: N dates, C columns of summands, R draws.

Every measure here is a function of sums over dates: a mean is sum(v) / sum(1), a correlation a
function of five sums. A draw of the bootstrap counts how often each date occurs in it, so the sums
of all draws are one product of matrices, W_RN @ columns_NC, and two models measured with the same
weights are compared on the same draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.evaluation.bootstrap import widened

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint16]

OfSums = Callable[[Floats], Floats]
"""From sums [..., C] to the value [...] of a measure; NaN where it is not defined."""

LEVEL = 0.95
"""Share of the draws inside an interval, unless asked otherwise."""

DRAWS = 1000
"""Draws of a bootstrap, unless asked otherwise."""

_SEED = 58  # of the correction for few dates

_CHUNK = 100  # draws in a product of matrices: their weights are float64 for its time only


@dataclass(frozen=True)
class Interval:
    """A measured value and where it may as well have been."""

    value: float
    """Of the dates themselves; NaN where not defined."""
    low: float
    """Lower end; NaN where there are too few dates for a bootstrap."""
    high: float
    """Upper end; NaN where `low` is."""


@dataclass(frozen=True, eq=False)
class Resamples:
    """Resamples of consecutive dates."""

    weights_RN: Counts
    """How often each date occurs in each resample; every row sums to the dates."""
    block: int
    """Mean length of a block, in dates."""


def block_length(horizon: int, dates: int) -> int:
    """Return the mean length of a block: two horizons, or the cube root of the dates if longer.

    Labels that overlap depend on one another over one horizon, and what a model predicts from
    slowly moving features over longer; the cube root is the rate at which the best length grows.
    (Politis and White 2004, Automatic Block-Length Selection for the Dependent Bootstrap.)

    Parameters
    ----------
    horizon : int
        Bars of a label, at least 1.
    dates : int
        Consecutive dates at hand.
    """
    return max(2 * horizon, round(math.cbrt(dates)))


def stationary_weights(dates: int, block: int, *, draws: int = DRAWS, seed: int = 58) -> Resamples:
    """Draw resamples of consecutive dates by the stationary bootstrap.

    A resample is made of blocks that begin anywhere and whose lengths are geometric with the mean
    `block`; after the last date comes the first. (Politis and Romano 1994, The Stationary
    Bootstrap, section 2.)

    Parameters
    ----------
    dates : int
        Length of the series, at least 1.
    block : int
        Mean length of a block, in dates, at least 1.
    draws : int
        Resamples, at least 1.
    seed : int
        Of the generator: equal seeds give equal weights.

    Raises
    ------
    InvalidConfig
        If a number is below 1.
    """
    for name, value in (("dates", dates), ("block", block), ("draws", draws)):
        if value < 1:
            raise InvalidConfig(f"{name}={value}: expected at least 1")
    rng = np.random.default_rng(seed)
    place_N = np.arange(dates)
    counts_RN = np.empty((draws, dates), np.uint16)
    for row_N in counts_RN:
        begins_N = rng.random(dates) < 1 / block
        begins_N[0] = True
        first_N = np.maximum.accumulate(np.where(begins_N, place_N, 0))
        drawn_N = rng.integers(dates, size=dates)[first_N] + place_N - first_N
        row_N[:] = np.bincount(drawn_N % dates, minlength=dates)
    return Resamples(counts_RN, block)


def drawn_values(columns_NC: Floats, of_sums: OfSums, resamples: Resamples) -> Floats:
    """Return a measure of each resample [R].

    Parameters
    ----------
    columns_NC : array
        Summands of each date, finite.
    of_sums : callable
        The measure as a function of the columns' sums.
    resamples : Resamples
        As `stationary_weights` draws them.

    Raises
    ------
    InvalidInput
        If the weights are of another number of dates.
    """
    weights_RN = resamples.weights_RN
    if weights_RN.shape[1] != len(columns_NC):
        raise InvalidInput(
            f"weights of {weights_RN.shape[1]} dates for {len(columns_NC)} dates: expected equals"
        )
    chunks = range(0, len(weights_RN), _CHUNK)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.concatenate(
            [of_sums(weights_RN[r : r + _CHUNK].astype(np.float64) @ columns_NC) for r in chunks]
        )


def bootstrap(
    columns_NC: Floats, of_sums: OfSums, resamples: Resamples | None, *, level: float = LEVEL
) -> Interval:
    """Return a measure with its interval.

    The ends are the value plus quantiles of the draws' deviations from it, which are corrected for
    what makes plain percentile intervals of dependent data too short: see
    `bootstrap.mean_deviations`, the dates being taken to depend on one another over half a block.

    Parameters
    ----------
    columns_NC, of_sums
        As for `drawn_values`.
    resamples : Resamples or None
        None for the value alone: then both ends are NaN.
    level : float
        Share of such intervals that hold the true value, between 0 and 1. Draws on which the
        measure is not defined are left out; where none is, both ends are NaN.

    Raises
    ------
    InvalidConfig
        If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise InvalidConfig(f"level={level}: expected a share between 0 and 1")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(of_sums(columns_NC.sum(axis=0, dtype=np.float64)))
    if resamples is None or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    drawn_R = drawn_values(columns_NC, of_sums, resamples)
    drawn_R = drawn_R[np.isfinite(drawn_R)]
    if not len(drawn_R):
        return Interval(value, math.nan, math.nan)
    rng = np.random.default_rng(_SEED)
    reach = max(1, resamples.block // 2)
    off_R = widened(drawn_R - value, len(columns_NC), resamples.block, rng, reach)
    low, high = value + np.quantile(off_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def mean_columns(values_N: Floats) -> Floats:
    """Return the columns of a mean, for `bootstrap` with `ratio`; NaN is left out."""
    known_N = np.isfinite(values_N)
    return np.stack([np.where(known_N, values_N, 0.0), known_N], axis=-1)


def ratio(sums_C: Floats) -> Floats:
    """Return the first sum [..., 2] divided by the second: the mean, of `mean_columns`."""
    return np.asarray(sums_C[..., 0] / sums_C[..., 1])


def overlap_t(values_N: Floats, horizon: int) -> float:
    """Return the t-value of a mean of overlapping observations, divided by sqrt(horizon).

    Observations that each span `horizon` bars and follow bar by bar share all but one of their
    bars; in the limit the plain t-value is too large by sqrt(horizon). (Hjalmarsson 2011, New
    Methods for Inference in Long-Horizon Regressions, section III; Valkanov 2003.)

    Parameters
    ----------
    values_N : array
        One per bar; NaN is left out.
    horizon : int
        Bars that an observation spans, at least 1.

    Returns
    -------
    float
        NaN below two values, or where all are equal.
    """
    known_N = values_N[np.isfinite(values_N)]
    if len(known_N) < 2 or np.ptp(known_N) == 0:
        return math.nan
    plain = known_N.mean() / (known_N.std(ddof=1) / math.sqrt(len(known_N)))
    return float(plain / math.sqrt(horizon))


def correlation_t(correlation: float, pairs: int, horizon: int) -> float:
    """Return the t-value of a correlation with overlapping labels, divided by sqrt(horizon).

    correlation * sqrt((pairs - 2) / (1 - correlation²)) / sqrt(horizon): Student's t of a
    correlation (Fisher 1915), and the correction of `overlap_t`. NaN below three pairs, or where
    the correlation is perfect.
    """
    if pairs < 3 or not abs(correlation) < 1:
        return math.nan
    plain = correlation * math.sqrt((pairs - 2) / (1 - correlation**2))
    return plain / math.sqrt(horizon)
