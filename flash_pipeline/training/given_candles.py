"""From a table of candles, as a program has them, to the window of a prediction.

Shape letters: L bars of the lookback, I = S * F inputs.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from flash_pipeline.errors import InvalidInput, NotEnoughHistory
from flash_pipeline.features import WARMUP_BARS, compute_features
from flash_pipeline.market import Interval, iso_utc
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.scaler import Floats

TIME_COLUMNS = ("start_time", "open_time", "startTime", "openTime")
"""Names that the column of the candles' starts may have."""

PRICES = ("open", "high", "low", "close")

MAX_AGE_BARS = 2
"""Bars that the newest close may lie before the present instant."""


def needed_bars(bundle: ModelBundle) -> int:
    """Return how many candles of each symbol a prediction takes: the lookback and its warm-up."""
    return bundle.lookback + WARMUP_BARS - 1


def expected_candles(bundle: ModelBundle) -> str:
    """Return in words what table of candles a model takes."""
    return (
        "a DataFrame with the columns symbol, start_time (or open_time; ms since the epoch), open, "
        f"high, low, close and volume: the newest {needed_bars(bundle)} or more closed candles of "
        f"interval {bundle.interval} of each of {', '.join(bundle.symbols)}, "
        "newest first or oldest first"
    )


def newest_window(
    candles: pd.DataFrame, bundle: ModelBundle, as_of: int, max_age_bars: int = MAX_AGE_BARS
) -> tuple[Floats, int]:
    """Return the window that ends with the newest candle, and when that candle closed.

    Parameters
    ----------
    candles : pd.DataFrame
        As `expected_candles` says; numbers may be strings, as Bybit sends them. Further columns
        and symbols are left out, and so are candles older than needed.
    bundle : ModelBundle
        The model that it is for.
    as_of : int
        The present instant, ms since the epoch: no candle may close after it.
    max_age_bars : int
        Bars that the newest close may lie before that, 0 or more.

    Returns
    -------
    tuple of array [L, I] float32 and int
        Unscaled features, and the close of the last bar, ms since the epoch.

    Raises
    ------
    InvalidInput
        If a column, symbol or candle is missing, a candle is twice there, out of order, off the
        grid, still forming or no candle, or the newest one is too old. The message names it.
    NotEnoughHistory
        If there are too few candles.
    """
    interval = Interval.parse(bundle.interval)
    table = _checked(candles)
    parts = [_of_symbol(table, symbol, interval) for symbol in bundle.symbols]
    last = max(int(part["start_time"].iloc[-1]) for part in parts)
    first = last - (needed_bars(bundle) - 1) * interval.milliseconds
    for symbol, part in zip(bundle.symbols, parts, strict=True):
        _check_span(symbol, part["start_time"].to_numpy(), first, last, interval)
    closed = last + interval.milliseconds
    if closed > as_of:
        raise InvalidInput(
            f"the candle from {iso_utc(last)} closes at {iso_utc(closed)} and is still forming at "
            f"{iso_utc(as_of)}: leave it out, or give as_of"
        )
    if as_of - closed > max_age_bars * interval.milliseconds:
        raise InvalidInput(
            f"the newest candle closed at {iso_utc(closed)}, more than {max_age_bars} bars before "
            f"{iso_utc(as_of)}: give newer ones, or as_of"
        )
    kept = pd.concat([part[part["start_time"] >= first] for part in parts])
    features = compute_features(pa.Table.from_pandas(kept, preserve_index=False), interval)
    return _window(features, bundle), closed


def _checked(candles: pd.DataFrame) -> pd.DataFrame:
    """Return symbol, start, prices and volume as numbers."""
    found = [name for name in TIME_COLUMNS if name in candles.columns]
    missing = [name for name in ("symbol", *PRICES, "volume") if name not in candles.columns]
    if len(found) != 1:
        missing.append("start_time" if not found else f"one only of {' and '.join(found)}")
    if missing:
        raise InvalidInput(f"columns {list(map(str, candles.columns))} lack {', '.join(missing)}")
    numbers = {name: _numbers(candles[name], name) for name in (*PRICES, "volume")}
    start_N = _starts(candles[found[0]], found[0])
    table = pd.DataFrame(
        {"symbol": candles["symbol"].astype(str), "start_time": start_N, **numbers}
    )
    high_N, low_N = table["high"], table["low"]
    good_N = (low_N > 0) & (table["volume"] >= 0)
    for name in ("open", "close"):
        good_N &= (low_N <= table[name]) & (table[name] <= high_N)
    if not good_N.all():
        row = table[~good_N].iloc[0]
        raise InvalidInput(
            f"{row['symbol']} at {iso_utc(int(row['start_time']))} is no candle: "
            + ", ".join(f"{name} {row[name]}" for name in (*PRICES, "volume"))
        )
    return table


def _numbers(column: "pd.Series[Any]", name: str) -> "pd.Series[float]":
    try:
        values = column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"column {name} holds what is no number: {error}") from error
    if not np.isfinite(values).all():
        raise InvalidInput(f"column {name} holds a value that is missing or infinite")
    return values


def _starts(column: "pd.Series[Any]", name: str) -> "pd.Series[int]":
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        if column.isna().any():
            raise InvalidInput(f"column {name} holds a time that is missing")
        utc = pd.to_datetime(column, utc=True)
        return (utc - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(milliseconds=1)
    return _numbers(column, name).astype(np.int64)


def _of_symbol(table: pd.DataFrame, symbol: str, interval: Interval) -> pd.DataFrame:
    """Return a symbol's candles, oldest first."""
    part = table[table["symbol"] == symbol]
    if part.empty:
        raise InvalidInput(f"symbol {symbol} is missing among {sorted(set(table['symbol']))}")
    if len(part) > 1 and part["start_time"].iloc[0] > part["start_time"].iloc[-1]:
        part = part[::-1]
    start_T = part["start_time"].to_numpy()
    off_T = start_T % interval.milliseconds != 0
    if off_T.any():
        raise InvalidInput(
            f"{symbol} has a candle from {iso_utc(int(start_T[off_T][0]))}, off the grid of "
            f"interval {interval.value}"
        )
    step_T = np.diff(start_T)
    if (step_T <= 0).any():
        at = int(start_T[1:][step_T <= 0][0])
        twice = int((start_T == at).sum()) > 1
        told = "twice" if twice else "out of order"
        raise InvalidInput(f"{symbol} has the candle from {iso_utc(at)} {told}")
    return part


def _check_span(
    symbol: str, start_T: "np.ndarray[Any, Any]", first: int, last: int, interval: Interval
) -> None:
    """Refuse candles that are not all those from `first` to `last`."""
    step = interval.milliseconds
    needed = (last - first) // step + 1
    if start_T[0] > first:
        raise NotEnoughHistory(
            f"{symbol} begins at {iso_utc(int(start_T[0]))}: expected {needed} candles from "
            f"{iso_utc(first)} to {iso_utc(last)}"
        )
    absent = np.setdiff1d(np.arange(first, last + step, step), start_T)
    if len(absent):
        raise InvalidInput(f"{symbol} lacks the candle from {iso_utc(int(absent[0]))}")


def _window(features: pa.Table, bundle: ModelBundle) -> Floats:
    """Return the features [L, I] of the last bars."""
    table = features.to_pandas()
    by_symbol = dict(list(table.groupby("symbol")))
    x_LSF = np.stack(
        [
            by_symbol[symbol][list(bundle.feature_names)].to_numpy(np.float32)[-bundle.lookback :]
            for symbol in bundle.symbols
        ],
        axis=1,
    )
    return x_LSF.reshape(bundle.lookback, -1)
