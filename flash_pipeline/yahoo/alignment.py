"""Puts Yahoo's bars on the grid of the panel, without look-ahead.

A candle of the store says by its start when it is known: at `start_time + interval`, no earlier.
Yahoo's bars begin where a session begins, so the grid candle of a bar is the one that contains
its close:

    grid start = ceil(close / interval) * interval - interval

    New York by the hour, 13:30 to 20:00 UTC            a day in Sydney, 23:00 to 05:00 UTC
    13:30    14:30    15:30  ...  19:30   20:00         Sun 23:00          Mon 05:00
      ├────────┼────────┼─────  ────┼───────┤             ├────────────────────┤
              14:00─15:00                                 (not Sunday: it ends before the close)
                        the bar's candle                       Mon 00:00 ──────── Tue 00:00

**By the hour** the close is an hour after the open, also for the last bar of a session, which may
be shorter: when past sessions ended (half days, breaks for lunch) is not told, and an end taken
from today's session would let a bar appear before its close. So a short bar is known later than it
could be, by less than an hour, and every bar of a session has a candle of its own.

**By the day** the close is that of the session: its local date at the local time at which the
regular session of `currentTradingPeriod` ends, in the exchange's time zone, so daylight saving
time is that of the date. Where none is given it is the end of the local date. Half days end
earlier, which is on the same UTC day wherever sessions do not run past midnight UTC; where they
do, as with currencies and futures, the regular session is the whole local day.

**Volumes** of cryptocurrencies and currencies are values in the quote currency at Yahoo. They
become the candle's turnover, and by the mean of a bar's four prices its volume in the base
currency, which is what the contract says. Of all others turnover is null.

Bars of one chart follow one another without overlap. Should two close within one candle, the
candle is both together: the first open, the highest high, the lowest low, the last close, the sum
of the volumes, which is what one bar over both would say. Two daily bars of one date do overlap,
and are an error.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import CANDLE_SCHEMA, Interval, iso_utc
from flash_pipeline.yahoo.chart import Chart
from flash_pipeline.yahoo.shapes import Period

DELAY_MS = 30 * 60 * 1000
"""How late Yahoo's numbers are at most, ms: exchanges let it show them up to half an hour later."""

_SECONDS_PER_DAY = 86_400
_HOUR_S = 3600
_SNAPSHOT_S = 60  # between the time of the last trade and that of the row that shows it
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)


@dataclass(frozen=True)
class _Bars:
    opens: npt.NDArray[np.int64]  # seconds since the epoch, sorted
    closes: npt.NDArray[np.int64]  # the same
    values: npt.NDArray[np.float64]  # [bars, 5]

    def where(self, mask: npt.NDArray[np.bool_]) -> "_Bars":
        return _Bars(self.opens[mask], self.closes[mask], self.values[mask])


def align(chart: Chart, interval: Interval, as_of: int, symbol: str) -> pa.Table:
    """Return the candles of a chart that are closed and known.

    A bar that is no candle is left out, and nothing put in its place: one with a null, a price
    that is not positive, or a high or low that does not enclose the others.

    Parameters
    ----------
    chart : Chart
        Rows of one ticker.
    interval : Interval
        An hour or a day, as the chart's.
    as_of : int
        Clock of the answer, ms since the epoch. A candle is let through once it has ended by this
        clock and each of its bars is complete: a later trade is known, or `DELAY_MS` have passed.
    symbol : str
        Named in errors.

    Returns
    -------
    pa.Table
        Rows of `CANDLE_SCHEMA`; turnover is null but where Yahoo's volumes are one.

    Raises
    ------
    InconsistentAnswer
        If two daily bars are of one date.
    """
    bars = _without_snapshot(_bars(chart, interval), chart.last_trade)
    _require_apart(bars, symbol)
    bars = bars.where(_are_candles(bars.values))
    step, closes = interval.milliseconds, bars.closes * 1000
    starts = -(-closes // step) * step - step
    complete = closes + DELAY_MS <= as_of
    if chart.last_trade is not None:
        complete |= bars.closes <= chart.last_trade
    known = (starts + step <= as_of) & ~np.isin(starts, starts[~complete])
    return _combine(starts[known], bars.values[known], in_quote=chart.volume_in_quote)


def _bars(chart: Chart, interval: Interval) -> _Bars:
    if interval is Interval.HOUR_1:
        return _Bars(chart.opens, chart.opens + _HOUR_S, chart.values)
    closes = [_session_close(opened, chart.zone, chart.session) for opened in chart.opens.tolist()]
    return _Bars(chart.opens, np.array(closes, dtype=np.int64), chart.values)


def _session_close(opened: int, zone: ZoneInfo, session: Period | None) -> int:
    """Return when the session of the local date of an instant ends, seconds since the epoch."""
    day = datetime.fromtimestamp(opened, zone).date()
    after_midnight = _SECONDS_PER_DAY
    if session is not None and session.end > session.start:
        local_start, local_end = (t + session.gmtoffset for t in (session.start, session.end))
        after_midnight = local_end - local_start // _SECONDS_PER_DAY * _SECONDS_PER_DAY
    return _instant(day, after_midnight, zone)


def _instant(day: date, after_midnight: int, zone: ZoneInfo) -> int:
    """Return the instant of a local time; the later one where the clocks show it twice."""
    local = datetime.combine(day, time()) + timedelta(seconds=after_midnight)
    folds = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return int(max(folds).timestamp())


def _without_snapshot(bars: _Bars, last_trade: int | None) -> _Bars:
    """Leave out the row that is no bar: the last trade, which Yahoo adds to today's session."""
    if len(bars.opens) < 2 or last_trade is None:
        return bars
    within_bar = bars.opens[-1] < bars.closes[-2] or bars.closes[-1] == bars.closes[-2]
    if within_bar and abs(bars.opens[-1] - last_trade) <= _SNAPSHOT_S:
        return bars.where(np.arange(len(bars.opens)) < len(bars.opens) - 1)
    return bars


def _require_apart(bars: _Bars, symbol: str) -> None:
    """Pass bars of different closes: those of an hour always, those of a day of different dates."""
    same = np.flatnonzero(bars.closes[1:] == bars.closes[:-1])
    if len(same):
        first, second = (iso_utc(1000 * int(bars.opens[same[0] + n])) for n in (0, 1))
        raise InconsistentAnswer(
            f"{symbol}: the bars of {first} and {second} are of one session: no candle can be "
            "made of both",
            symbol=symbol,
        )


def _are_candles(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    prices = values[:, :_VOLUME]
    whole = np.isfinite(values).all(axis=1) & (values[:, _VOLUME] >= 0)
    enclosed = (prices.min(axis=1) == prices[:, _LOW]) & (prices.max(axis=1) == prices[:, _HIGH])
    return np.asarray(whole & enclosed & (prices > 0).all(axis=1))


def _combine(
    starts: npt.NDArray[np.int64], values: npt.NDArray[np.float64], *, in_quote: bool
) -> pa.Table:
    """Return one candle for each start, of one bar or of several in their order."""
    first = np.flatnonzero(np.diff(starts, prepend=starts[:1] - 1))
    last = np.append(first[1:], len(starts)) - 1
    if not len(first):
        return CANDLE_SCHEMA.empty_table()
    columns = [
        starts[first],
        values[first, _OPEN],
        np.maximum.reduceat(values[:, _HIGH], first),
        np.minimum.reduceat(values[:, _LOW], first),
        values[last, _CLOSE],
        np.add.reduceat(_base_volumes(values) if in_quote else values[:, _VOLUME], first),
    ]
    turnover = pa.nulls(len(first), pa.float64())
    if in_quote:
        turnover = pa.array(np.add.reduceat(values[:, _VOLUME], first))
    return pa.Table.from_arrays([*map(pa.array, columns), turnover], schema=CANDLE_SCHEMA)


def _base_volumes(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what was traded in the base currency [bars], of values in the quote currency."""
    volumes: npt.NDArray[np.float64] = values[:, _VOLUME] / values[:, :_VOLUME].mean(axis=1)
    return volumes
