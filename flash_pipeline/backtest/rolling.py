"""How a backtest went over time: by month, over rolling windows, by symbol.

T bars · S symbols · W windows · N dates of predictions
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from flash_pipeline.backtest.metrics import FLAT
from flash_pipeline.backtest.prices import FloatArray, IntArray
from flash_pipeline.backtest.result import BacktestResult

MOST_POINTS = 120
"""Windows that a rolling measure is computed for, evenly spread."""

LEAST_PAIRS = 24
"""Predictions of a symbol below which a window has no rank IC."""


@dataclass(frozen=True)
class SymbolRow:
    """What one symbol contributed."""

    symbol: str
    net_pnl_fraction: float
    """Profit after costs, a fraction of the starting equity."""
    costs_fraction: float
    """Costs of its trades, a fraction of the starting equity."""
    funding_fraction: float
    """Funding paid, a fraction of the starting equity."""
    mean_weight: float
    """Mean signed weight over all bars."""
    mean_size: float
    """Mean size of the weight over all bars."""
    trades_count: int
    """Orders filled."""


def by_symbol(result: BacktestResult) -> list[SymbolRow]:
    """Return the symbols' shares of the result, in the order of the columns."""
    return [
        SymbolRow(
            symbol,
            net_pnl_fraction=float(result.net_pnl_S[s]),
            costs_fraction=float(result.costs_paid_TS[:, s].sum()),
            funding_fraction=float(result.funding_paid_TS[:, s].sum()),
            mean_weight=float(result.weights_TS[:, s].mean()),
            mean_size=float(np.abs(result.weights_TS[:, s]).mean()),
            trades_count=int(np.count_nonzero(result.orders_TS[:, s])),
        )
        for s, symbol in enumerate(result.symbols)
    ]


def monthly_returns(result: BacktestResult) -> dict[tuple[int, int], float]:
    """Return the compounded net return of each (year, month), by the open of its bars in UTC."""
    month_T = result.start_time_T.astype("datetime64[ms]").astype("datetime64[M]").astype(int)
    starts = np.flatnonzero(np.diff(month_T, prepend=month_T[0] - 1))
    growth = np.multiply.reduceat(1 + result.returns_T, starts)
    keys = [(1970 + int(m) // 12, int(m) % 12 + 1) for m in month_T[starts]]
    return dict(zip(keys, (growth - 1).tolist(), strict=True))


def window_ends(n_bars: int, window: int) -> IntArray:
    """Return the last bars of at most `MOST_POINTS` windows; none if there is no whole window."""
    if n_bars < window:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.linspace(window - 1, n_bars - 1, MOST_POINTS).round().astype(np.int64))


def rolling_sharpe(returns_T: FloatArray, window: int, bars_per_year: float) -> FloatArray:
    """Return the annualised Sharpe ratio of each window of `window_ends`; NaN if it is flat."""
    ends_W = window_ends(len(returns_T), window)
    views = np.lib.stride_tricks.sliding_window_view(returns_T, window)[ends_W - window + 1]
    deviation_W = views.std(axis=1, ddof=1)
    ratio_W = np.full(len(ends_W), np.nan)
    np.divide(views.mean(axis=1), deviation_W, out=ratio_W, where=deviation_W > FLAT)
    return np.asarray(ratio_W * np.sqrt(bars_per_year))


def rolling_mean(series_T: FloatArray, window: int) -> FloatArray:
    """Return the mean of each window of `window_ends`."""
    total_T = np.concatenate([[0.0], np.cumsum(series_T)])
    ends_W = window_ends(len(series_T), window)
    return np.asarray((total_T[ends_W + 1] - total_T[ends_W + 1 - window]) / window)


def rolling_rank_ic(predictions: pa.Table, window_ms: int) -> tuple[IntArray, FloatArray] | None:
    """Return the rank IC over rolling windows: Spearman's by symbol, and then the mean of them.

    Parameters
    ----------
    predictions : pa.Table
        Columns `made_at` (ms), `symbol`, `prediction` and `label`; pairs with a null are left out.
    window_ms : int
        Length of a window.

    Returns
    -------
    (array [W], array [W]) or None
        Ends of the windows, ms, and the IC, NaN below `LEAST_PAIRS` of every symbol. None if the
        table has no such columns or does not cover a window.
    """
    columns = ["made_at", "symbol", "prediction", "label"]
    if not set(columns) <= set(predictions.column_names):
        return None
    frame = predictions.select(columns).to_pandas().dropna().sort_values("made_at", kind="stable")
    if frame.empty or frame["made_at"].iloc[-1] - frame["made_at"].iloc[0] < window_ms:
        return None
    first, last = (int(frame["made_at"].iloc[row]) for row in (0, -1))
    ends_W = np.linspace(first + window_ms, last, MOST_POINTS).round().astype(np.int64)
    total_W, count_W = np.zeros(len(ends_W)), np.zeros(len(ends_W))
    for _, own in frame.groupby("symbol", sort=True):
        ic_W = _rank_ic(own, ends_W, window_ms)
        total_W += np.nan_to_num(ic_W)
        count_W += np.isfinite(ic_W)
    mean_W = np.full(len(ends_W), np.nan)
    np.divide(total_W, count_W, out=mean_W, where=count_W > 0)
    return ends_W, mean_W


def _rank_ic(own: pd.DataFrame, ends_W: IntArray, window_ms: int) -> FloatArray:
    made_at_N = own["made_at"].to_numpy()
    ic_W = np.full(len(ends_W), np.nan)
    for w, end in enumerate(ends_W):
        low, high = np.searchsorted(made_at_N, [end - window_ms, end], side="right")
        if high - low < LEAST_PAIRS:
            continue
        ranks = own.iloc[low:high][["prediction", "label"]].rank().to_numpy()
        if ranks.std(axis=0).min() > 0:
            ic_W[w] = np.corrcoef(ranks, rowvar=False)[0, 1]
    return ic_W
