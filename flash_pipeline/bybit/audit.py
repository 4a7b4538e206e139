"""Checks the stored candles against the contract."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from flash_pipeline.market import Interval, Month
from flash_pipeline.storage.klines import KlineStore


def audit_klines(store: KlineStore, symbols: Iterable[str]) -> list[str]:
    """Return what is wrong with the stored candles, one sentence each; empty if nothing is.

    Every month's file must be sorted and unique, lie on the grid and within its month, and hold
    positive prices with low <= open, close <= high and a volume of 0 or more.
    """
    return [
        f"{symbol} {month}: {problem}"
        for symbol in symbols
        for month in store.months(symbol)
        for problem in audit_month(store.read_month(symbol, month), month, store.interval)
    ]


def audit_month(candles: pa.Table, month: Month, interval: Interval) -> list[str]:
    """Return what is wrong with one month's candles, one sentence each."""
    start = candles["start_time"].to_numpy()
    low, high = candles["low"].to_numpy(), candles["high"].to_numpy()
    body = np.stack([candles["open"].to_numpy(), candles["close"].to_numpy()])
    rules = {
        "candles out of order or twice": np.diff(start) <= 0,
        f"candles off the {interval.value} grid": start % interval.milliseconds != 0,
        "candles of another month": (start < month.time_range.start)
        | (start >= month.time_range.end),
        "prices not above zero": ~(low > 0),
        "opens or closes outside low to high": ~((low <= body) & (body <= high)).all(axis=0),
        "negative or missing volumes": ~(candles["volume"].to_numpy() >= 0),
    }
    return [f"{int(broken.sum())} {name}" for name, broken in rules.items() if broken.any()]
