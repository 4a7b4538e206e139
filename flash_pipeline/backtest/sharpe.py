"""How sure a Sharpe ratio is, given how few, how skewed and how selected the returns are.

T bars
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance

from flash_pipeline.backtest.prices import FloatArray
from flash_pipeline.errors import InvalidInput

EULER_MASCHERONI = 0.5772156649015329
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Moments:
    """What a series of returns is summed up by, per bar."""

    sharpe_per_bar: float
    """Mean over sample standard deviation, not annualised; NaN without volatility."""
    skewness: float
    """Third standardised moment; 0 of a normal distribution."""
    raw_kurtosis: float
    """Fourth standardised moment, not the excess over 3: 3 of a normal distribution."""
    n_bars: int
    """Returns behind them, a count."""


@dataclass(frozen=True)
class Trials:
    """How many strategies were tried before one was chosen, for `deflated_sharpe`.

    Raises
    ------
    InvalidInput
        If there is none, or the variance is negative or not finite.
    """

    count: int
    """Trials, the chosen one included."""
    sharpe_variance: float
    """Variance of their Sharpe ratios, each per bar and not annualised."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InvalidInput(f"{self.count} trials: expected at least 1")
        if not (math.isfinite(self.sharpe_variance) and self.sharpe_variance >= 0):
            raise InvalidInput(
                f"the variance of the trials is {self.sharpe_variance}: expected 0 or more"
            )

    @classmethod
    def of(cls, count: int, sharpes_per_bar: Sequence[float], n_bars: int) -> "Trials":
        """Return trials of which some Sharpe ratios are known.

        Parameters
        ----------
        count : int
            Trials, the chosen one included.
        sharpes_per_bar : sequence of float
            Their Sharpe ratios per bar; those that are not finite are left out.
        n_bars : int
            Bars of the chosen one's backtest, at least 2. The variance is at least that of
            worthless strategies over so many bars, `1 / (n_bars - 1)`: the squared standard error
            of a Sharpe ratio of zero (A. W. Lo (2002), "The Statistics of Sharpe Ratios",
            Financial Analysts Journal 58(4)). A few known ratios that happen to lie close
            together do not make luck any smaller.

        Raises
        ------
        InvalidInput
            If there is no trial.
        """
        known = [sharpe for sharpe in sharpes_per_bar if math.isfinite(sharpe)]
        luck = 1 / (n_bars - 1)
        return cls(count, max(variance(known), luck) if len(known) > 1 else luck)


def moments(returns_T: FloatArray, *, flat: float = 1e-12) -> Moments:
    """Measure returns for the Sharpe ratio's distribution.

    Parameters
    ----------
    returns_T : array [T]
        Simple returns per bar, finite, at least 2.
    flat : float
        A deviation below this is rounding: the ratios are NaN.
    """
    away_T = returns_T - returns_T.mean()
    square_T = away_T * away_T
    variance = float(square_T.mean())
    deviation = math.sqrt(variance * len(returns_T) / (len(returns_T) - 1))
    if deviation <= flat:
        return Moments(math.nan, math.nan, math.nan, len(returns_T))
    return Moments(
        sharpe_per_bar=float(returns_T.mean()) / deviation,
        # No matrix product: its threads wait for one another on a busy machine.
        skewness=float((square_T * away_T).mean()) / variance**1.5,
        raw_kurtosis=float((square_T * square_T).mean()) / variance**2,
        n_bars=len(returns_T),
    )


def probabilistic_sharpe(of: Moments, benchmark_per_bar: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio exceeds a benchmark.

    Parameters
    ----------
    of : Moments
        Of the returns. The kurtosis is the raw one: feeding the excess over 3, as some libraries
        do, makes fat tails look harmless.
    benchmark_per_bar : float
        Sharpe ratio to exceed, per bar and not annualised.

    Returns
    -------
    float
        0 to 1; NaN where the Sharpe ratio is not defined.

    Notes
    -----
    D. H. Bailey and M. López de Prado (2012), "The Sharpe Ratio Efficient Frontier", Journal of
    Risk 15(2), the section on the probabilistic Sharpe ratio:
    `Φ((SR - SR*) sqrt(T - 1) / sqrt(1 - γ3 SR + (γ4 - 1) / 4 SR²))`.
    It takes returns for independent from bar to bar.

    Examples
    --------
    The hedge fund of the paper: 24 months at a Sharpe ratio of 0.458 a month.

    >>> fund = Moments(0.458, skewness=-2.448, raw_kurtosis=10.164, n_bars=24)
    >>> round(probabilistic_sharpe(fund), 3)
    0.913
    """
    sharpe = of.sharpe_per_bar
    variance = 1 - of.skewness * sharpe + (of.raw_kurtosis - 1) / 4 * sharpe**2
    if not variance > 0:  # NaN, or a skewness that no distribution with this kurtosis has
        return math.nan
    return _NORMAL.cdf((sharpe - benchmark_per_bar) * math.sqrt((of.n_bars - 1) / variance))


def expected_best_sharpe(trials: Trials) -> float:
    """Return the Sharpe ratio that the best of several worthless strategies is expected to show.

    Parameters
    ----------
    trials : Trials
        Number of independent strategies, and the variance of their Sharpe ratios per bar.

    Returns
    -------
    float
        Per bar; 0 of a single trial.

    Notes
    -----
    D. H. Bailey and M. López de Prado (2014), "The Deflated Sharpe Ratio", Journal of Portfolio
    Management 40(5), the expected maximum under the false strategy theorem:
    `sqrt(V) ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e)))`.
    """
    if trials.count == 1:
        return 0.0
    most = (1 - EULER_MASCHERONI) * _NORMAL.inv_cdf(1 - 1 / trials.count)
    most += EULER_MASCHERONI * _NORMAL.inv_cdf(1 - 1 / (trials.count * math.e))
    return math.sqrt(trials.sharpe_variance) * most


def deflated_sharpe(of: Moments, trials: Trials) -> float:
    """Return the probability that the true Sharpe ratio is above zero, after so many trials.

    Parameters
    ----------
    of : Moments
        Of the returns of the strategy that was chosen.
    trials : Trials
        Among how many it was chosen.

    Returns
    -------
    float
        `probabilistic_sharpe` against the best that luck alone would show, 0 to 1.

    Examples
    --------
    The strategy of the paper: five years of days at an annual Sharpe ratio of 2.5, the best of 100
    trials whose annual ratios have a variance of one half.

    >>> chosen = Moments(2.5 / math.sqrt(250), skewness=-3, raw_kurtosis=10, n_bars=1250)
    >>> round(deflated_sharpe(chosen, Trials(100, sharpe_variance=0.5 / 250)), 4)
    0.9004
    """
    return probabilistic_sharpe(of, expected_best_sharpe(trials))
