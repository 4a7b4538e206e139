"""From a table of candles, as a program has them, to the window of a prediction.

Shape letters: L bars of the lookback, I = S * F inputs.
"""

from collections.abc import Sequence
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

NUMBERS = ("open", "high", "low", "close", "volume")

INSTANTS = (10**11, 10**13)
"""Bounds of an instant in ms, 1973 to 2286: in seconds, us or ns no time of a market is within."""

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
        and symbols are left out, and so are candles older than needed, whatever they hold.
    bundle : ModelBundle
        The model that it is for.
    as_of : int
        The present instant, ms since the epoch: no candle may close after it.
    max_age_bars : int
        Bars that the newest close may lie before that, 0 or more.

    Returns
    -------
    tuple of array [L, I] float32 and int
        Unscaled features, not finite where they cannot be computed, and the close of the last
        bar, ms since the epoch.

    Raises
    ------
    InvalidInput
        If a column, symbol or candle is missing, a column or candle is twice there, a candle is
        out of order, off the grid, still forming or none, a start is not in ms, or the newest
        candle is too old. The message names it.
    NotEnoughHistory
        If there are too few candles.
    """
    interval = Interval.parse(bundle.interval)
    table = _of_symbols(candles, bundle.symbols)
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
    kept = _checked(pd.concat([part[part["start_time"] >= first] for part in parts]))
    features = compute_features(pa.Table.from_pandas(kept, preserve_index=False), interval)
    return _window(features, bundle), closed


def checked_instant(value: float, name: str) -> int:
    """Return an instant, ms since the epoch.

    Raises
    ------
    InvalidInput
        If it is fractional, or so far off that its unit must be another.
    """
    if not INSTANTS[0] <= value < INSTANTS[1]:
        raise InvalidInput(f"{name} is {value:g}: expected milliseconds since the epoch")
    return int(value)


def _of_symbols(candles: pd.DataFrame, symbols: Sequence[str]) -> pd.DataFrame:
    """Return the candles of these symbols as they are, but for a numeric `start_time`."""
    names = list(map(str, candles.columns))
    found = [name for name in TIME_COLUMNS if name in names]
    missing = [name for name in ("symbol", *NUMBERS) if name not in names]
    if len(found) != 1:
        missing.append("start_time" if not found else f"one only of {' and '.join(found)}")
    if missing:
        raise InvalidInput(f"columns {names} lack {', '.join(missing)}")
    used = ["symbol", found[0], *NUMBERS]
    twice = [name for name in used if names.count(name) > 1]
    if twice:
        raise InvalidInput(f"columns {names} hold {', '.join(twice)} more than once")
    table = candles.set_axis(names, axis=1)[used]
    table["symbol"] = table["symbol"].astype(str)
    absent = [symbol for symbol in symbols if symbol not in set(table["symbol"])]
    if absent:
        raise InvalidInput(f"symbol {absent[0]} is missing among {sorted(set(table['symbol']))}")
    table = table[table["symbol"].isin(symbols)]
    return table.assign(start_time=_starts(table[found[0]], found[0]))


def _checked(candles: pd.DataFrame) -> pd.DataFrame:
    """Return symbol, start, prices and volume as numbers that may be a candle's."""
    table = candles[["symbol", "start_time"]].assign(
        **{name: _numbers(candles[name], name) for name in NUMBERS}
    )
    high_N, low_N = table["high"], table["low"]
    good_N = (low_N > 0) & (table["volume"] >= 0)
    for name in ("open", "close"):
        good_N &= (low_N <= table[name]) & (table[name] <= high_N)
    if not good_N.all():
        row = table[~good_N].iloc[0]
        raise InvalidInput(
            f"{row['symbol']} at {iso_utc(int(row['start_time']))} is no candle: "
            + ", ".join(f"{name} {row[name]}" for name in NUMBERS)
        )
    return table


def _numbers(column: "pd.Series[Any]", name: str) -> "pd.Series[float]":
    if _holds_truth(column):
        raise InvalidInput(f"column {name} holds what is no number: true or false")
    try:
        values = column.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"column {name} holds what is no number: {error}") from error
    if not np.isfinite(values).all():
        raise InvalidInput(f"column {name} holds a value that is missing or infinite")
    return values


def _holds_truth(column: "pd.Series[Any]") -> bool:
    """Say whether anything is true or false, which pandas reads as 1 and 0."""
    mixed = column.dtype == object and any(isinstance(each, bool | np.bool_) for each in column)
    return mixed or pd.api.types.is_bool_dtype(column)


def _starts(column: "pd.Series[Any]", name: str) -> "pd.Series[int]":
    """Return the starts in ms since the epoch."""
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        if column.isna().any():
            raise InvalidInput(f"column {name} holds a time that is missing")
        since = pd.to_datetime(column, utc=True) - pd.Timestamp(0, tz="UTC")
        values = since / pd.Timedelta(milliseconds=1)
    else:
        values = _numbers(column, name)
    wrong_N = (values < INSTANTS[0]) | (values >= INSTANTS[1]) | (values % 1 != 0)
    if wrong_N.any():
        raise InvalidInput(
            f"column {name} holds {values[wrong_N].iloc[0]:.15g}: expected whole milliseconds "
            "since the epoch"
        )
    return values.astype(np.int64)


def _of_symbol(table: pd.DataFrame, symbol: str, interval: Interval) -> pd.DataFrame:
    """Return a symbol's candles, oldest first."""
    part = table[table["symbol"] == symbol]
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
    by_symbol = dict(list(features.to_pandas().groupby("symbol")))
    names, newest = list(bundle.feature_names), slice(-bundle.lookback, None)
    with np.errstate(over="ignore"):  # infinite then: unknown, as what cannot be computed
        x_LSF = np.stack(
            [by_symbol[symbol][names].to_numpy(np.float32)[newest] for symbol in bundle.symbols],
            axis=1,
        )
    return x_LSF.reshape(bundle.lookback, -1)
