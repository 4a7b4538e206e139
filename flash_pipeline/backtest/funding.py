"""Funding settlements, laid on the bars of a simulation.

T bars · S symbols · K settlements of a symbol
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.backtest.prices import BoolArray, FloatArray, IntArray, Prices, is_price
from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import iso_utc

HOUR_MS = 3_600_000

TOLERANCE_MS = 60_000
"""A settlement this much after a bar's open counts as at the open: recorded times jitter by tens of
milliseconds."""

LONGEST_INTERVAL_MS = 8 * HOUR_MS
"""Longest time between settlements on Bybit; more than that and some are missing."""


@dataclass(frozen=True, eq=False)
class KnownFunding:
    """The funding of some bars, as far as it is known."""

    rate_TS: FloatArray | None
    """Rates paid at each open, 0 where none is due or known; None where no symbol has any."""
    told: str
    """In words: what is charged, what is not, and where an older rate stands in."""


def known_funding(
    table: pa.Table | None, prices: Prices, ended_S: IntArray | None = None
) -> KnownFunding:
    """Lay funding on bars with what is known, and say what is not.

    Settlements are stored every few hours, so that the newest bars may lie past the last one. What
    is due there by the symbol's last interval is charged at its last settled rate, a guess that is
    told. Where nothing is known (before the first settlement, in a hole, or for a symbol without
    any, as one that is no perpetual), nothing is charged, which is told too.

    Parameters
    ----------
    table : pa.Table or None
        As for `funding_on_bars`; None charges none, on purpose.
    ended_S : array [S] or None
        Open of the last bar of each symbol, ms since the epoch: of one that was delisted nothing is
        due after it. None: all symbols trade to the end.

    Raises
    ------
    InvalidInput
        As `funding_on_bars`.
    """
    if table is None:
        return KnownFunding(None, "not charged, as asked for")
    nothing = KnownFunding(None, "not charged: no settlement is stored")
    if table.num_rows == 0:
        return nothing
    own = table.select(["symbol", "funding_time", "rate"])
    own = own.filter(pc.is_in(own["symbol"], pa.array(prices.symbols)))
    if own.num_rows == 0:
        return nothing
    if ended_S is None:
        ended_S = np.full(len(prices.symbols), prices.start_time_T[-1])
    due = [
        row
        for settled in _settlements(own, prices, TOLERANCE_MS)
        for row in _due(settled, prices, int(ended_S[settled[0]]))
    ]
    own = pa.concat_tables([own, pa.Table.from_pylist(due, schema=own.schema)])
    rate_TS = funding_on_bars(own, prices)
    told = ["charged at settlement"]
    first = int(prices.start_time_T[0]) - TOLERANCE_MS
    guessed = [row for row in due if row["funding_time"] > first]
    if guessed:
        since = iso_utc(min(row["funding_time"] for row in guessed))
        symbols = len({row["symbol"] for row in guessed})
        told.append(
            f"{_count(len(guessed), 'settlement')} of {_count(symbols, 'symbol')} from {since} on "
            "at the symbol's last settled rate, as no later one is stored"
        )
    over_TS = prices.start_time_T[:, None] > ended_S
    return KnownFunding(
        np.nan_to_num(rate_TS), "; ".join([*told, *_unknown(rate_TS, prices, over_TS)])
    )


def funding_on_bars(
    table: pa.Table,
    prices: Prices,
    *,
    beyond: float = np.nan,
    tolerance_ms: int = TOLERANCE_MS,
) -> FloatArray:
    """Lay settled funding rates on the opens at which `simulate` charges them.

    A settlement falls on the first open at or after it, give or take the tolerance, where whoever
    held the position over the bar before pays. Several within one bar add up.

    Parameters
    ----------
    table : pa.Table
        Columns `symbol`, `funding_time` (int64, ms since the epoch, UTC) and `rate` (a fraction of
        the notional that a long position pays a short one), in any order of rows; other columns
        and other symbols are ignored.
    prices : Prices
        Bars and symbols of the simulation.
    beyond : float
        Rate of a bar for which the table is silent: more than `LONGEST_INTERVAL_MS` after a
        symbol's last settlement, or before its first. NaN, the default, makes `simulate` refuse a
        position there; 0 charges nothing, which flatters.
    tolerance_ms : int
        How much later than an open a settlement may be recorded, at least 0 and below a bar.

    Returns
    -------
    array [T, S]
        Sum of the rates settled at each open, 0 where none falls.

    Raises
    ------
    InvalidInput
        If a column is missing, a rate or time is not known, or a symbol settles twice at once.

    Examples
    --------
    >>> hours = 3_600_000 * np.arange(3)
    >>> prices = Prices(hours, np.ones((3, 1)), np.ones((3, 1)), ("BTCUSDT",))
    >>> row = {"symbol": "BTCUSDT", "funding_time": 3_600_031, "rate": 0.0001}
    >>> funding_on_bars(pa.Table.from_pylist([row]), prices, beyond=0.0).tolist()
    [[0.0], [0.0001], [0.0]]
    """
    if not 0 <= tolerance_ms < prices.bar_ms:
        raise InvalidInput(
            f"tolerance_ms is {tolerance_ms}: expected 0 up to a bar, {prices.bar_ms} ms"
        )
    funding_TS = np.full(prices.open_TS.shape, np.float64(beyond))
    for column, time_K, rate_K in _settlements(table, prices, tolerance_ms):
        # The first open at or after a settlement; earlier and later ones fall outside the bars.
        bar_K = -((int(prices.start_time_T[0]) + tolerance_ms - time_K) // prices.bar_ms)
        last_T = np.searchsorted(time_K, prices.start_time_T + tolerance_ms, side="right") - 1
        age_T = prices.start_time_T - time_K[np.maximum(last_T, 0)]
        known_T = (last_T >= 0) & (age_T < LONGEST_INTERVAL_MS)
        inside_K = (bar_K >= 0) & (bar_K < len(known_T))
        laid_T = np.bincount(bar_K[inside_K], rate_K[inside_K], minlength=len(known_T))
        funding_TS[known_T, column] = laid_T[known_T]
    return funding_TS


def _settlements(
    table: pa.Table, prices: Prices, tolerance_ms: int
) -> Iterator[tuple[int, IntArray, FloatArray]]:
    """Yield column, times and rates of every symbol that has settlements, oldest first."""
    missing = {"symbol", "funding_time", "rate"} - set(table.column_names)
    if missing:
        raise InvalidInput(f"the funding table has no column {', '.join(sorted(missing))}")
    for column, symbol in enumerate(prices.symbols):
        own = table.filter(pc.equal(table["symbol"], symbol)).sort_by("funding_time")
        if own.num_rows == 0:
            continue
        if own["funding_time"].null_count:
            raise InvalidInput(f"a funding_time of {symbol} is null")
        time_K = own["funding_time"].to_numpy().astype(np.int64)
        rate_K = own["rate"].to_numpy(zero_copy_only=False).astype(np.float64)
        if not np.isfinite(rate_K).all():
            bad = int(time_K[np.argmax(~np.isfinite(rate_K))])
            raise InvalidInput(f"the funding rate of {symbol} at {iso_utc(bad)} is not a number")
        close_K = np.diff(time_K) <= tolerance_ms
        if close_K.any():
            twice = int(time_K[np.argmax(close_K)])
            raise InvalidInput(f"{symbol} settles twice at {iso_utc(twice)}: expected once")
        yield column, time_K, rate_K


def _due(
    settled: tuple[int, IntArray, FloatArray], prices: Prices, ended: int
) -> list[dict[str, Any]]:
    """Return what is due from a symbol's last settlement to its end, by its last interval and rate.

    Some lie before the first bar, so that the rate counts as known there.
    """
    column, time_K, rate_K = settled
    step = LONGEST_INTERVAL_MS
    if len(time_K) > 1:  # recorded times jitter, intervals are whole hours
        step = min(max(round((time_K[-1] - time_K[-2]) / HOUR_MS), 1) * HOUR_MS, step)
    last = min(ended, int(prices.start_time_T[-1])) + TOLERANCE_MS
    times = range(int(time_K[-1]) + step, last + 1, step)
    first = int(prices.start_time_T[0])
    return [
        {"symbol": prices.symbols[column], "funding_time": time, "rate": float(rate_K[-1])}
        for time in times
        if time >= first - LONGEST_INTERVAL_MS
    ]


def _count(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _unknown(rate_TS: FloatArray, prices: Prices, over_TS: BoolArray) -> list[str]:
    """Say of which symbols and bars the funding is not known; none is due where all is over."""
    told = []
    unknown_TS = np.isnan(rate_TS) & is_price(prices.close_TS) & ~over_TS
    for column, symbol in enumerate(prices.symbols):
        bars = np.flatnonzero(unknown_TS[:, column])
        if len(bars) == 0:
            continue
        first, last = (iso_utc(int(prices.start_time_T[bar])) for bar in bars[[0, -1]])
        some = len(bars) < len(rate_TS)
        where = f" at {len(bars):,} bars from {first} to {last}" if some else ""
        told.append(f"not charged to {symbol}{where}: none is stored")
    return told
