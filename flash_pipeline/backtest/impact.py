"""Market impact by the square-root law.

    cost of an order, a fraction of its notional = Y × σ × sqrt(order / turnover)

with the bar's turnover in quote coin and σ the volatility of a bar. The same law holds for days:
σ grows with the square root of the time and the turnover with the time, so both cancel.

Sources: R. Almgren, C. Thum, E. Hauptmann and H. Li (2005), "Direct Estimation of Equity Market
Impact", Risk 18(7), find a power of 0.6 of the share of the volume, scaled by the volatility; B.
Tóth et al. (2011), "Anomalous Price Impact and the Critical Nature of Liquidity in Financial
Markets", Physical Review X 1, 021006, section II, the square root with Y of order 1.

T bars · S symbols
"""

import numpy as np

from flash_pipeline.backtest.prices import BoolArray, FloatArray, Prices
from flash_pipeline.errors import InvalidInput

VOLATILITY_BARS = 24
"""Returns behind the volatility of a bar."""


def impact_scale(prices: Prices, coefficient: float, capital: float) -> FloatArray:
    """Return the factor k of an impact cost of `k × sqrt(notional)`.

    Parameters
    ----------
    prices : Prices
        With the bars' turnover. Where it is null or zero, the last one known before it is taken:
        no bar without a record of trades is given more liquidity than the one before. An infinite
        one takes any order without impact.
    coefficient : float
        Y of the law, `Costs.impact`.
    capital : float
        Starting equity in quote coin: orders are counted in multiples of it.

    Returns
    -------
    array [S, T]
        Cost of an order of one starting equity, a fraction of it; times the square root of the
        order's size in starting equities. NaN where it can't be known: no turnover up to there,
        or no return before.

    Raises
    ------
    InvalidInput
        If the prices come without turnover.

    Notes
    -----
    The turnover is that of the bar in which the order is filled. It decides what a fill costs,
    nothing that a strategy sees, so it is no look-ahead. The volatility is that of the close
    returns of the `VOLATILITY_BARS` bars before, of fewer at the start. Bars that are filled in
    have none; after a hole of so many bars the last volatility known is taken.
    """
    if prices.turnover_TS is None:
        raise InvalidInput(
            f"impact is {coefficient:g}, but the prices come without turnover: give turnover_TS, "
            "or no impact"
        )
    turnover_TS = _last_known(prices.turnover_TS)
    close_TS = prices.close_TS
    if prices.real_TS is not None:  # a price that is carried does not make a market calm
        close_TS = np.where(prices.real_TS, close_TS, np.nan)
    scale_TS = coefficient * _volatility(close_TS) * np.sqrt(capital / turnover_TS)
    return np.ascontiguousarray(scale_TS.T)


def _last_known(turnover_TS: FloatArray) -> FloatArray:
    return _carried(turnover_TS, turnover_TS > 0)  # false for a NaN


def _carried(array_TS: FloatArray, known_TS: BoolArray) -> FloatArray:
    """Return the last known value of each column, NaN before the first."""
    bar_T1 = np.arange(len(array_TS))[:, None]
    last_TS = np.maximum.accumulate(np.where(known_TS, bar_T1, -1), axis=0)
    carried_TS = np.take_along_axis(array_TS, np.maximum(last_TS, 0), axis=0)
    return np.where(last_TS >= 0, carried_TS, np.nan)


def _volatility(close_TS: FloatArray) -> FloatArray:
    """Return the root mean square of the close returns before each bar, NaN before the first."""
    valid_TS = np.isfinite(close_TS) & (close_TS > 0)
    log_TS = np.log(np.where(valid_TS, close_TS, 1.0))
    square_TS, known_TS = np.zeros_like(log_TS), np.zeros_like(log_TS)
    # Row t holds what is known at the open of bar t: the return into the close of bar t - 1.
    pair_TS = valid_TS[1:-1] & valid_TS[:-2]
    square_TS[2:] = np.where(pair_TS, np.diff(log_TS[:-1], axis=0) ** 2, 0.0)
    known_TS[2:] = pair_TS
    sum_TS, count_TS = (_rolling_sum(a, VOLATILITY_BARS) for a in (square_TS, known_TS))
    mean_TS = np.full_like(sum_TS, np.nan)
    np.divide(np.maximum(sum_TS, 0.0), count_TS, out=mean_TS, where=count_TS > 0.5)
    # Before the second return nothing is known; the first known value stands in.
    first_TS = _first_known_before(mean_TS)
    return np.sqrt(_carried(first_TS, np.isfinite(first_TS)))


def _rolling_sum(array_TS: FloatArray, bars: int) -> FloatArray:
    total_TS = np.cumsum(array_TS, axis=0)
    total_TS[bars:] -= total_TS[:-bars].copy()
    return total_TS


def _first_known_before(array_TS: FloatArray) -> FloatArray:
    known_TS = np.isfinite(array_TS)
    first_S = np.argmax(known_TS, axis=0)
    bar_T1 = np.arange(len(array_TS))[:, None]
    return np.where(bar_T1 < first_S, array_TS[first_S, np.arange(array_TS.shape[1])], array_TS)
