"""Measures of the predictions themselves, before any position is taken.

Shape letters: N anchors, S symbols, Q quantile levels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.floating]


def rank_ic(predictions_NS: Floats, labels_NS: Floats) -> float:
    """Return the rank information coefficient: Spearman's correlation over time, mean of symbols.

    Parameters
    ----------
    predictions_NS, labels_NS : array
        Pairs with a NaN on either side are left out. Ties take mean ranks.

    Returns
    -------
    float
        In [-1, 1]; NaN where no symbol has two pairs that differ. (Spearman 1904; Grinold and
        Kahn 2000, Active Portfolio Management, chapter 6.)
    """
    return _mean([_spearman(p, y) for p, y in zip(predictions_NS.T, labels_NS.T, strict=True)])


def cross_sectional_ic(predictions_NS: Floats, labels_NS: Floats) -> float:
    """Return the mean over time of the rank correlation across symbols; NaN below two symbols."""
    predictions, labels = pd.DataFrame(predictions_NS), pd.DataFrame(labels_NS)
    both = predictions.notna() & labels.notna()
    ranked = [frame.where(both).rank(axis=1) for frame in (predictions, labels)]
    correlations = ranked[0].corrwith(ranked[1], axis=1, method="pearson")
    return float(correlations.mean())


def hit_rate(signal_NS: Floats, labels_NS: Floats) -> float:
    """Return the share of pairs whose signal has the label's sign; zeros and NaN are left out."""
    sign_NS = np.sign(signal_NS) * np.sign(labels_NS)
    counted = np.isfinite(sign_NS) & (sign_NS != 0)
    return float((sign_NS[counted] > 0).mean()) if counted.any() else float("nan")


def r2_against_zero(predictions_NS: Floats, labels_NS: Floats) -> float:
    """Return 1 - sum((y - p)²) / sum(y²), mean of symbols: below 0 is worse than predicting 0.

    (Gu, Kelly and Xiu 2020, Empirical Asset Pricing via Machine Learning, equation 19.)
    """
    known_NS = np.isfinite(predictions_NS) & np.isfinite(labels_NS)
    error_S = np.where(known_NS, (labels_NS - predictions_NS) ** 2, 0).sum(axis=0)
    total_S = np.where(known_NS, labels_NS**2, 0).sum(axis=0)
    return _mean([float(1 - e / t) for e, t in zip(error_S, total_S, strict=True) if t > 0])


def pinball(quantiles_NSQ: Floats, labels_NS: Floats, levels: Sequence[float]) -> float:
    """Return the mean of `pinball_losses` over the known labels."""
    return float(np.nanmean(pinball_losses(quantiles_NSQ, labels_NS, levels)))


def pinball_losses(
    quantiles_NSQ: Floats, labels_NS: Floats, levels: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Return the pinball loss [N, S] of every label, summed over the levels; NaN where unknown.

    max(p e, (p - 1) e) with the error e = label - quantile at the level p. (Koenker and Bassett
    1978, Regression Quantiles.)

    Parameters
    ----------
    quantiles_NSQ : array
        One quantile per level.
    labels_NS : array
        NaN where not known.
    levels : sequence of float
        Levels between 0 and 1.
    """
    levels_Q, errors_NSQ = np.asarray(levels), labels_NS[..., None] - quantiles_NSQ
    losses_NSQ = np.maximum(levels_Q * errors_NSQ, (levels_Q - 1) * errors_NSQ)
    return np.asarray(losses_NSQ.sum(axis=-1), dtype=np.float64)


def coverage(quantiles_NSQ: Floats, labels_NS: Floats) -> float:
    """Return the share of known labels from the first to the last quantile; NaN if none is known.

    Of calibrated quantiles it is the difference of the two levels, such as 0.9.
    """
    inside_NS = (labels_NS >= quantiles_NSQ[..., 0]) & (labels_NS <= quantiles_NSQ[..., -1])
    known_NS = np.isfinite(labels_NS)
    return float(inside_NS[known_NS].mean()) if known_NS.any() else float("nan")


def mean_by_date(values_NS: Floats) -> npt.NDArray[np.float64]:
    """Return the mean over the symbols whose value is known, date by date; NaN where none is."""
    known_NS = np.isfinite(values_NS)
    count_N = known_NS.sum(axis=1)
    total_N = np.where(known_NS, values_NS, 0.0).sum(axis=1)
    return np.where(count_N > 0, total_N / np.maximum(count_N, 1), np.nan)


def _spearman(prediction_N: Floats, label_N: Floats) -> float:
    pairs = pd.DataFrame({"p": prediction_N, "y": label_N}).dropna().rank()
    if len(pairs) < 2 or pairs["p"].nunique() < 2 or pairs["y"].nunique() < 2:
        return float("nan")
    return float(pairs["p"].corr(pairs["y"]))


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
