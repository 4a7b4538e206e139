"""Bars as a chart has them: within trading hours, some of them null, the last one under way."""

from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from flash_pipeline.exchange.candles import NO_CANDLES, Candles, Column, join_candles
from flash_pipeline.exchange.source import CandleRequest, Market
from flash_pipeline.exchange.yahoo.query import ChartQuery
from flash_pipeline.exchange.yahoo.sessions import (
    RoundTheClock,
    Session,
    newest_session,
    sessions_between,
)
from flash_pipeline.exchange.yahoo.tickers import Ticker
from flash_pipeline.market import Interval
from flash_pipeline.market.interval import MINUTE_MS

_HOUR_MS = 60 * MINUTE_MS
_MANY = 10**9  # rows: no limit
_NULL_EVERY = 83  # bars, on average
_QUARTER_MS = 91 * 24 * _HOUR_MS


@dataclass(frozen=True)
class Bars:
    """Bars of a chart, oldest first."""

    candles: Candles
    """Stamped as Yahoo stamps them; volumes are whole numbers."""
    null: Column
    """Whether Yahoo has lost a bar's values, bool [bars]; the newest bar is always there."""
    adjusted: Column
    """Closes less the dividends paid since, [bars]."""


def chart_bars(market: Market, ticker: Ticker, query: ChartQuery, now: int) -> Bars:
    """Return the bars that start within a query's range, up to an instant.

    An hourly bar starts at a whole hour after the opening, so in New York at 9:30 and last, for
    half an hour, at 15:30. After them comes the newest trade as a bar of its own, stamped with
    its time and without a volume. A daily bar is stamped with the opening; that of the current
    session with the time of the newest trade. Which bars are null depends on the ticker and the
    bar's start alone.

    Returns
    -------
    Bars
        Prices in single precision, as Yahoo has them.
    """
    trades = _traded(market, ticker, query, now)
    hourly = query.interval == "1h"
    bars = trades.grouped(_bar_starts(trades, ticker, hourly=hourly))
    bars = bars.between(query.first, query.end - 1)
    null = _lost(ticker, bars.start_time)
    latest = last_trade(ticker, now)
    current = len(bars) > 0 and latest < query.end and _holds(ticker, bars, now)
    if current:
        null[-1] = False
        stamp = np.array([latest // 1000 * 1000])
        bars = _with_live(bars, stamp) if hourly else _restamped(bars, stamp)
        null = np.append(null, np.zeros(len(bars) - len(null), dtype=bool))
    bars = _in_single_precision(bars, ticker)
    return Bars(bars, null, _adjusted(bars, ticker, now))


def last_trade(ticker: Ticker, now: int) -> int:
    """Return the time of the newest trade, ms: now, or the end of the newest session."""
    return min(now, newest_session(ticker.hours, now).end)


def _traded(market: Market, ticker: Ticker, query: ChartQuery, now: int) -> Candles:
    """Return the candles that bars are made of: hours of coins, else minutes of sessions."""
    end = min(query.end, now + 1)
    sessions = list(sessions_between(ticker.hours, query.first, end))
    if not sessions:
        return NO_CANDLES
    fine = Interval.HOUR_1 if isinstance(ticker.hours, RoundTheClock) else Interval.MIN_1
    first, last = sessions[0].start, min(sessions[-1].end - 1, now)
    candles = market.candles(CandleRequest(ticker.symbol, fine, first, last, _MANY), now)
    parts = [candles.between(session.start, session.end - 1) for session in sessions]
    return join_candles(parts)


def _bar_starts(trades: Candles, ticker: Ticker, *, hourly: bool) -> Column:
    """Return the start of the bar that each candle belongs to, ms [candles]."""
    if not len(trades):
        return trades.start_time
    first, end = int(trades.start_time[0]), int(trades.start_time[-1]) + 1
    opens = np.array([s.start for s in sessions_between(ticker.hours, first, end)])
    opening: Column = opens[np.searchsorted(opens, trades.start_time, side="right") - 1]
    if not hourly:
        return opening
    hours: Column = trades.start_time - (trades.start_time - opening) % _HOUR_MS
    return hours


def _holds(ticker: Ticker, bars: Candles, now: int) -> bool:
    """Say whether the last bar is of the current session."""
    session: Session = newest_session(ticker.hours, now)
    return session.start <= int(bars.start_time[-1])


def _with_live(bars: Candles, stamp: Column) -> Candles:
    if stamp[0] <= bars.start_time[-1]:
        return bars  # the hour has just begun: its bar is the newest trade
    price, nothing = bars.close[-1:], np.zeros(1)
    return join_candles([bars, Candles(stamp, *(price,) * 4, nothing, nothing)])


def _restamped(bars: Candles, stamp: Column) -> Candles:
    return replace(bars, start_time=np.append(bars.start_time[:-1], stamp))


def _lost(ticker: Ticker, starts: Column) -> Column:
    hashed = (starts // MINUTE_MS).astype(np.uint64) * np.uint64(2654435761) + np.uint64(
        crc32(ticker.name.encode())
    )
    lost: Column = (hashed >> np.uint64(16)) % np.uint64(_NULL_EVERY) == 0
    return lost


def _in_single_precision(bars: Candles, ticker: Ticker) -> Candles:
    """Round prices to float32, and volumes to whole numbers: of coins that is their value."""
    open_, high, low, close = (
        price.astype(np.float32).astype(np.float64)
        for price in (bars.open, bars.high, bars.low, bars.close)
    )
    value = np.where(np.isnan(bars.turnover), bars.volume * bars.close, bars.turnover)
    volume = value if ticker.kind == "CRYPTOCURRENCY" else bars.volume
    return Candles(bars.start_time, open_, high, low, close, np.rint(volume), bars.turnover)


def _adjusted(bars: Candles, ticker: Ticker, now: int) -> Column:
    quarters = now // _QUARTER_MS - bars.start_time // _QUARTER_MS
    adjusted: Column = bars.close * (1 - ticker.dividend) ** quarters
    return adjusted
