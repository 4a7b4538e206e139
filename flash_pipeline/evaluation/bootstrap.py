"""The stationary block bootstrap of a mean, for many resamples of long series.

`statistics.stationary_weights` draws the same resamples date by date, for any measure; of a mean
alone a block is the difference of two running sums, which takes a hundredth of the work and no
memory.

Shape letters: T dates, R resamples, K blocks of a resample.
"""

import functools

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidInput

Floats = npt.NDArray[np.float64]

_CELLS = 2_000_000


def bootstrap_means(
    values_T: Floats,
    *,
    block: float,
    resamples: int,
    rng: np.random.Generator,
    length: int | None = None,
) -> Floats:
    """Return the means of resamples of a series that keep its dependence from date to date.

    A resample is made of blocks that begin anywhere, with lengths drawn from the geometric
    distribution, on a series closed to a circle: so it is stationary itself. Only means are
    asked for, so a block is a difference of two running sums and no resample is laid out.
    (Politis and Romano 1994, The Stationary Bootstrap, JASA 89(428), section 2.)

    Parameters
    ----------
    values_T : array
        One finite value per date, in order, evenly spaced.
    block : float
        Mean length of a block in dates, at least 1. Twice the reach of the dependence or more:
        shorter ones take overlapping labels for independent.
    resamples : int
        At least 1.
    rng : numpy.random.Generator
        Where chance comes from.
    length : int or None
        Dates of a resample; None for as many as the series has. Fewer give what a shorter sample
        of the same process would show.

    Returns
    -------
    array [R]
        A mean per resample.

    Raises
    ------
    InvalidInput
        If the series is empty or holds NaN or infinity.
    """
    dates = len(values_T)
    if not dates or not np.isfinite(values_T).all():
        raise InvalidInput(
            f"a series of {dates} dates, {int((~np.isfinite(values_T)).sum())} of them not finite: "
            "expected at least one date and finite values"
        )
    wanted = dates if length is None else length
    # Summed about the mean, so that the differences of running sums lose no digits.
    mean = float(values_T.mean())
    circle = np.concatenate([values_T, values_T]) - mean
    running = np.concatenate([[0.0], np.cumsum(circle)])
    # So many blocks that no resample needs more: six deviations above the expected number.
    expected = wanted / block
    blocks = int(expected + 6 * np.sqrt(expected) + 10)
    part = max(1, _CELLS // blocks)
    return mean + np.concatenate(
        [
            _means(running, dates, wanted, block, (min(part, resamples - done), blocks), rng)
            for done in range(0, resamples, part)
        ]
    )


def mean_deviations(
    values_T: Floats, *, block: float, resamples: int, rng: np.random.Generator, reach: int = 1
) -> Floats:
    """Return how far the mean of such a series may lie from the true one, by chance.

    The deviations of `bootstrap_means` from the observed mean are too small in a short sample,
    for two reasons that have nothing to do with the series: they are taken about its own mean, and
    their spread is an estimate with few degrees of freedom. Both follow from the weights that the
    stationary bootstrap gives to the autocovariance at lag k (Politis and Romano 1994, section
    3.1), b_k = 2 (1 - k/T) (1 - 1/block)^k. Of values whose correlation at lag k is r_k, and V =
    1 + 2 sum (1 - k/T) r_k, the expected spread is
    (1 + sum b_k r_k) / V - (1 + sum b_k) / T of the true one; it is divided by that, with r_k =
    1 - k/reach as of sums over `reach` bars: 0 of independent values. Its relative variance is
    2 (1 + sum b_k² / 2) / T, that of a chi-square with v = T / (1 + sum b_k² / 2) degrees of
    freedom; each deviation is multiplied by sqrt(v / chi-square_v), which turns a normal
    distribution into Student's t (as in Kiefer and Vogelsang 2005, A new asymptotic theory for
    heteroskedasticity-autocorrelation robust tests, for kernels).

    Parameters
    ----------
    values_T, block, resamples, rng
        As for `bootstrap_means`.
    reach : int
        Dates over which values depend on one another, such as a horizon; 1 for independent ones,
        which is a little too sure (of 6 % of the spread) where they do.

    Returns
    -------
    array [R]
        Deviations, about 0 in the mean.
    """
    dates = len(values_T)
    means_R = bootstrap_means(values_T, block=block, resamples=resamples, rng=rng)
    return widened(means_R - values_T.mean(), dates, block, rng, reach)


def widened(
    deviation_R: Floats, dates: int, block: float, rng: np.random.Generator, reach: int = 1
) -> Floats:
    """Return deviations of resamples as wide as those of samples: see `mean_deviations`.

    Parameters
    ----------
    deviation_R : array
        Of a mean, or of a smooth function of means, from that of the series.
    dates, block
        Length of the series, and of its blocks in the mean.
    rng : numpy.random.Generator
        Where chance comes from.
    reach : int
        Dates over which the summands depend on one another.
    """
    share, freedom = _precision(dates, block, reach)
    chance_R = np.sqrt(freedom / rng.chisquare(freedom, len(deviation_R)))
    return np.asarray(deviation_R * chance_R / np.sqrt(share))


@functools.lru_cache(maxsize=8)
def _precision(dates: int, block: float, reach: int) -> tuple[float, float]:
    """Return the expected spread of resampled means and its degrees of freedom."""
    lag_K = np.arange(1, dates)
    double_K = 2 * (1 - lag_K / dates)
    weight_K = double_K * (1 - 1 / block) ** lag_K
    related_K = np.maximum(0.0, 1 - lag_K / reach)
    kept = (1 + (weight_K * related_K).sum()) / (1 + (double_K * related_K).sum())
    share = kept - (1 + weight_K.sum()) / dates
    return max(share, 1 / dates), dates / (1 + (weight_K**2).sum() / 2)


def _means(
    running: Floats,
    dates: int,
    wanted: int,
    block: float,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Floats:
    start_RK = rng.integers(0, dates, shape)
    length_RK = rng.geometric(1 / block, shape)
    length_RK[:, -1] += wanted  # the last block ends a resample whatever was drawn before
    before_RK = np.cumsum(length_RK, axis=1) - length_RK
    length_RK = np.clip(wanted - before_RK, 0, length_RK)
    laps_RK, rest_RK = np.divmod(length_RK, dates)
    sums_RK = running[start_RK + rest_RK] - running[start_RK] + laps_RK * running[dates]
    return np.asarray(sums_RK.sum(axis=1) / wanted)
