"""From a head's predictions to portfolio weights whose gross is bounded by construction.

T bars · S symbols

Each head has a rule of its own, since each speaks another language: a forward return, a
probability, quantiles, a weight. The first three share the capital equally among the symbols, so
that the gross is at most 1; an allocation model shares it itself, up to its own cap. A prediction
that is NaN takes no position in that symbol at that bar; its share of the capital stays in cash.
Row t uses the prediction made at the close of bar t, as `simulate` expects.
"""

import numpy as np
from numpy.typing import NDArray

from flash_pipeline.backtest.prices import FloatArray
from flash_pipeline.errors import InvalidConfig, InvalidInput

_FLOAT32_ROUNDING = 1e-6

# Predictions come in the model's float32 as well.
Predictions = NDArray[np.floating]


def regression_weights(
    pred_TS: Predictions, scale: float | FloatArray, *, saturation: float = 2.0
) -> FloatArray:
    """Size by a predicted return relative to how far predictions usually are from zero.

    Parameters
    ----------
    pred_TS : array [T, S]
        Predicted forward return over the horizon, a fraction; NaN takes no position.
    scale : float or array [S]
        Standard deviation of the predictions on the validation range. Taken from the tested
        range itself it would be look-ahead: the size of a position would know of later ones.
    saturation : float
        Number of `scale` at which a position is full, above 0.

    Returns
    -------
    array [T, S]
        `clip(pred / (saturation × scale), -1, 1) / S`.

    Raises
    ------
    InvalidConfig
        If a scale or the saturation is no positive number.

    Examples
    --------
    >>> regression_weights(np.array([[0.01, -0.2]]), 0.01).tolist()
    [[0.25, -0.5]]
    """
    scale_S = np.asarray(scale, dtype=np.float64)
    for name, value in (("scale", scale_S), ("saturation", np.asarray(saturation))):
        if not np.all(np.isfinite(value) & (value > 0)):
            raise InvalidConfig(f"{name} is {value.tolist()}: expected a number above 0")
    pred_TS = _as_matrix("predictions", pred_TS)
    return _shared(np.clip(pred_TS / (saturation * scale_S), -1, 1))


def direction_weights(prob_TS: Predictions) -> FloatArray:
    """Size by the distance of a probability from one half.

    Parameters
    ----------
    prob_TS : array [T, S]
        Probability of a rise, 0 to 1; NaN takes no position.

    Returns
    -------
    array [T, S]
        `(2 × prob - 1) / S`.

    Raises
    ------
    InvalidInput
        If a probability is outside [0, 1]: a logit, for example.
    """
    return _shared(2 * _bounded("probability", prob_TS, 0.0, 1.0) - 1)


def quantile_weights(median_TS: Predictions, spread_TS: Predictions) -> FloatArray:
    """Size by a predicted median relative to the predicted spread: sure forecasts weigh more.

    Parameters
    ----------
    median_TS : array [T, S]
        Predicted median of the return over the horizon, a fraction; NaN takes no position.
    spread_TS : array [T, S]
        Distance from the lowest to the highest predicted quantile, 0 or more, in the same unit.
        Without a spread, as of a single level, nothing is known of the risk: no position.

    Returns
    -------
    array [T, S]
        `clip(2 × median / spread, -1, 1) / S`. Of quantiles that lie symmetrically about their
        median: full where the interval between the outer ones does not hold zero any more.

    Raises
    ------
    InvalidInput
        If the shapes differ or a spread is negative.

    Examples
    --------
    >>> quantile_weights(np.array([[0.01, -0.2]]), np.array([[0.04, 0.1]])).tolist()
    [[0.25, -0.5]]
    """
    median_TS = _as_matrix("medians", median_TS)
    spread_TS = _bounded("spread", spread_TS, 0.0, np.inf)
    if median_TS.shape != spread_TS.shape:
        raise InvalidInput(
            f"spreads have shape {spread_TS.shape}: expected the medians', {median_TS.shape}"
        )
    signal_TS = np.zeros_like(median_TS)
    np.divide(2 * median_TS, spread_TS, out=signal_TS, where=spread_TS > 0)
    return _shared(np.clip(signal_TS, -1, 1))


def allocation_weights(weight_TS: Predictions, gross_cap: float = 1.0) -> FloatArray:
    """Take the weights of an allocation model, which has shared the capital already.

    Parameters
    ----------
    weight_TS : array [T, S]
        Wanted fraction of the capital in each symbol, -1 to 1; NaN takes no position.
    gross_cap : float
        Largest sum of the sizes of a row's weights, above 0: that of the model.

    Returns
    -------
    array [T, S]
        The weights; a row above the cap, be it by float32 rounding, is scaled down to it.

    Raises
    ------
    InvalidConfig
        If the cap is no positive number.
    InvalidInput
        If a weight is further outside [-1, 1] than float32 rounding explains.
    """
    if not (np.isfinite(gross_cap) and gross_cap > 0):
        raise InvalidConfig(f"gross_cap is {gross_cap}: expected a number above 0")
    limit = 1 + _FLOAT32_ROUNDING
    weight_TS = np.nan_to_num(_bounded("allocation", weight_TS, -limit, limit), nan=0.0)
    gross_T1 = np.abs(weight_TS).sum(axis=1, keepdims=True)
    return np.asarray(weight_TS * (gross_cap / np.maximum(gross_T1, gross_cap)))


def hold_cohorts(weights_TS: FloatArray, horizon: int) -> FloatArray:
    """Hold every bar's signal for its whole horizon, each with 1 / horizon of the capital.

    A forecast over h bars is earned over h bars. So each bar opens a cohort that is held for h
    bars, and the portfolio is the mean of the h cohorts alive (Jegadeesh & Titman 1993,
    "Returns to Buying Winners and Selling Losers", section I). Booking the h-bar return at every
    bar, as if all of the capital earned it h times over, is what this replaces. The other honest
    way to hold a signal for h bars is `simulate(..., rebalance_every=h)`: all of the capital
    follows one signal in h, which costs less and depends on the hour of the first.

    Parameters
    ----------
    weights_TS : array [T, S]
        Signal of each bar, decided at its close, without NaN.
    horizon : int
        Bars that a signal is held, at least 1.

    Returns
    -------
    array [T, S]
        Mean of the last `horizon` rows. The first rows divide by `horizon` as well: the capital
        is deployed gradually, the rest waits in cash.

    Raises
    ------
    InvalidConfig
        If the horizon is below 1.
    InvalidInput
        If a weight is not finite.
    """
    if horizon < 1:
        raise InvalidConfig(f"horizon is {horizon}: expected at least 1 bar")
    weights_TS = _finite(weights_TS)
    # Added up cohort by cohort: a difference of running sums would leave rounding where every
    # cohort is flat, and a position of 1e-17 asks for prices.
    total_TS = weights_TS.copy()
    for age in range(1, min(horizon, len(weights_TS))):
        total_TS[age:] += weights_TS[:-age]
    return np.asarray(total_TS / horizon)


def capped(
    weights_TS: FloatArray, *, gross_cap: float, symbol_cap: float | None = None
) -> FloatArray:
    """Cut weights to caps, where `simulate` would refuse them.

    Parameters
    ----------
    weights_TS : array [T, S]
        Signed weights without NaN.
    gross_cap : float
        Largest sum of the sizes of a row, above 0; a row above it is scaled down as a whole.
    symbol_cap : float or None
        Largest size of one weight, above 0, applied first.

    Raises
    ------
    InvalidConfig
        If a cap is no positive number.
    InvalidInput
        If a weight is not finite.

    Examples
    --------
    >>> capped(np.array([[0.9, -0.2, 0.5]]), gross_cap=0.6, symbol_cap=0.5).tolist()
    [[0.25, -0.1, 0.25]]
    """
    for name, cap in (("gross_cap", gross_cap), ("symbol_cap", symbol_cap)):
        if cap is not None and not (np.isfinite(cap) and cap > 0):
            raise InvalidConfig(f"{name} is {cap}: expected a number above 0")
    weights_TS = _finite(weights_TS)
    if symbol_cap is not None:
        weights_TS = np.clip(weights_TS, -symbol_cap, symbol_cap)
    gross_T1 = np.abs(weights_TS).sum(axis=1, keepdims=True)
    return np.asarray(weights_TS * (gross_cap / np.maximum(gross_T1, gross_cap)))


def _shared(signal_TS: FloatArray) -> FloatArray:
    return np.asarray(np.nan_to_num(signal_TS, nan=0.0) / signal_TS.shape[1])


def _as_matrix(what: str, array_TS: Predictions) -> FloatArray:
    matrix_TS = np.asarray(array_TS, dtype=np.float64)
    if matrix_TS.ndim != 2 or matrix_TS.shape[1] == 0:
        raise InvalidInput(f"{what} have shape {matrix_TS.shape}: expected [bars, symbols]")
    return matrix_TS


def _finite(weights_TS: FloatArray) -> FloatArray:
    weights_TS = _as_matrix("weights", weights_TS)
    if not np.isfinite(weights_TS).all():
        raise InvalidInput("weights hold NaN or infinity: the sizing rules give 0 for no position")
    return weights_TS


def _bounded(what: str, array_TS: Predictions, low: float, high: float) -> FloatArray:
    matrix_TS = _as_matrix(what, array_TS)
    bad_TS = (matrix_TS < low) | (matrix_TS > high)
    if bad_TS.any():
        bar, column = np.unravel_index(int(np.argmax(bad_TS)), bad_TS.shape)
        raise InvalidInput(
            f"{what} at bar {bar}, symbol {column} is {matrix_TS[bar, column]}: "
            f"expected {low:g} to {high:g}"
        )
    return matrix_TS
