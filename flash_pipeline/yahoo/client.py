"""The client of Yahoo's chart API: a source of candles of whatever trades somewhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

from flash_pipeline.errors import MalformedAnswer, SourceUnsupported
from flash_pipeline.market import CandleAnswer, Interval, TimeRange, empty_candles, iso_utc
from flash_pipeline.transport import (
    Answer,
    HttpTransport,
    OneMarket,
    Query,
    RequestBudget,
    Session,
    Timeouts,
    check_status,
    is_json,
    parse_http_date,
    require_json,
)
from flash_pipeline.yahoo.alignment import align
from flash_pipeline.yahoo.chart import Chart, read_chart

HOURLY_REACH_DAYS = 730
"""How far back Yahoo has hourly bars, days; daily ones go back to the listing."""

MAX_CANDLES = 20_000
"""Candle starts in one window: more than the hours of the reach, and 54 years of days."""

_PATH = "/v8/finance/chart/"
_USER_AGENT = "Mozilla/5.0"  # what does not look like a browser gets HTTP 429 at once
_GRANULARITY = {Interval.HOUR_1: "1h", Interval.DAY_1: "1d"}
_DAY_MS = Interval.DAY_1.milliseconds
_LEAD_MS = {Interval.HOUR_1: Interval.HOUR_1.milliseconds, Interval.DAY_1: 3 * _DAY_MS}
"""How long before its candle's start a bar can open."""
_NO_CHART = {400, 404, 422}  # statuses that are answers about a ticker, not about the service

ADDRESS_BUDGET = RequestBudget(10, 5.0)
"""Requests of this process. Yahoo tells no limit, so this keeps far from any: a run asks for one
window a symbol."""


class YahooClient:
    """A client of the chart API; every method may be called from several threads.

    Candles are aligned as `yahoo.alignment` says. Turnover is null but for currencies, whose
    volumes are values. Prices are adjusted for splits, as of the day they are asked for, and not
    for dividends.

    Parameters
    ----------
    base_urls : sequence of str
        Hosts in the order of preference, such as `https://query1.finance.yahoo.com`.
    tickers : mapping of str to str
        Yahoo's names by ours, such as `{"SPX": "^GSPC"}`; at least one.
    session : Session or None
        Injected by tests; by default one of our own.
    sleep : callable
        Waits a number of seconds between tries.
    attempts : int
        Tries of a call that fails for a transient reason, at least 1.
    timeouts : Timeouts or None
        Of each answer.
    budget : RequestBudget or None
        By default the one that all clients of this process share.

    Raises
    ------
    ExchangeError
        From every method, the branch of the tree that fits. Transient ones are raised after
        `attempts` tries with growing pauses.
    """

    name = "yahoo"
    """Name in tables and metadata."""
    continuous = False
    """Exchanges close for the night: a candle that is missing is no gap."""
    most_candles = MAX_CANDLES
    """Candle starts in one window at most."""

    def __init__(
        self,
        base_urls: Sequence[str],
        tickers: Mapping[str, str],
        *,
        session: Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 6,
        timeouts: Timeouts | None = None,
        budget: RequestBudget | None = None,
    ) -> None:
        if not tickers:
            raise ValueError("no ticker given: expected at least one")
        self._tickers = dict(tickers)
        self._transport = HttpTransport(
            base_urls,
            session=session,
            sleep=sleep,
            attempts=attempts,
            timeouts=timeouts,
            budget=ADDRESS_BUDGET if budget is None else budget,
            user_agent=_USER_AGENT,
        )
        self._clock: int | None = None
        self._one_market = OneMarket("Yahoo")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def now(self) -> int:
        """Return Yahoo's clock, ms since the epoch, UTC: the `Date` of an answer.

        `regularMarketTime` would not do: it stands still while a market is closed.
        """

        def read(answer: Answer) -> int:
            if not (answer.status in _NO_CHART and is_json(answer)):
                check_status(answer)
                require_json(answer)  # a page's date is that of whoever wrote it
            return self._accept(answer)

        ticker = next(iter(self._tickers.values()))
        query = {"range": "1d", "interval": "1d", "includePrePost": "false"}
        self._clock = self._transport.get(_PATH + quote(ticker, safe=""), query, read)
        return self._clock

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes these candles; only the embedded exchange can."""
        if self._one_market.market is None:
            self.now()
        return self._one_market.market == "simulated"

    def candles(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return the closed candles that open within a window of at most 20,000 starts.

        Raises
        ------
        SourceUnsupported
            For a symbol without a ticker, an interval other than an hour or a day, or an hour
            longer ago than Yahoo keeps them.
        """
        ticker = self._ticker(symbol)
        if interval not in _GRANULARITY:
            raise SourceUnsupported(
                f"interval {interval.value!r} of {symbol} cannot be had: Yahoo has "
                f"{' and '.join(known.value for known in _GRANULARITY)}"
            )
        starts = window.candle_starts(interval)
        if not 0 < len(starts) <= MAX_CANDLES:
            raise ValueError(f"{len(starts)} candles asked at once: expected 1 to {MAX_CANDLES}")
        query = self._query(symbol, interval, window)

        def read(answer: Answer) -> CandleAnswer:
            chart = read_chart(answer, symbol, ticker, _GRANULARITY[interval])
            return self._answer(chart, self._accept(answer), symbol, interval, window)

        return self._transport.get(_PATH + quote(ticker, safe=""), query, read, symbol=symbol)

    def delisted(self, symbols: Sequence[str]) -> frozenset[str]:
        """Return none of the symbols: Yahoo does not tell a delisting from a wrong name."""
        for symbol in symbols:
            self._ticker(symbol)
        return frozenset()

    def _ticker(self, symbol: str) -> str:
        if symbol not in self._tickers:
            raise SourceUnsupported(
                f"symbol {symbol!r} has no ticker of Yahoo: name it in FLASH_PIPELINE_YAHOO, "
                "such as SPX=^GSPC"
            )
        return self._tickers[symbol]

    def _query(self, symbol: str, interval: Interval, window: TimeRange) -> Query:
        first = window.start - _LEAD_MS[interval]
        if interval is Interval.HOUR_1:
            clock = self.now() if self._clock is None else self._clock
            # An hour to spare: the clock goes on until Yahoo has the request.
            earliest = clock - HOURLY_REACH_DAYS * _DAY_MS + interval.milliseconds
            if first < earliest:
                raise SourceUnsupported(
                    f"hourly candles of {symbol} from {iso_utc(window.start)} cannot be had: Yahoo "
                    f"keeps those of {HOURLY_REACH_DAYS} days, from "
                    f"{iso_utc(interval.ceil(earliest + _LEAD_MS[interval]))} on; ask for later "
                    "ones, or for interval D"
                )
        return {
            "period1": first // 1000,
            "period2": -(-window.end // 1000),
            "interval": _GRANULARITY[interval],
            "includePrePost": "false",
        }

    def _answer(
        self, chart: Chart | None, clock: int, symbol: str, interval: Interval, window: TimeRange
    ) -> CandleAnswer:
        """Return the candles of a window; Yahoo answers rows around what was asked as well."""
        # The earlier of both: should one have jumped ahead, nothing that forms passes for closed.
        as_of = clock if self._clock is None else min(clock, self._clock)
        if chart is None or not len(chart.opens):
            return CandleAnswer(empty_candles(), as_of)
        candles = align(chart, interval, as_of, symbol)
        starts = candles["start_time"].to_numpy()
        first, end = starts.searchsorted([window.start, window.end])
        return CandleAnswer(candles.slice(int(first), int(end - first)), as_of)

    def _accept(self, answer: Answer) -> int:
        """Return an answer's clock, and refuse a second host that serves other numbers."""
        self._one_market.require(answer)
        return _read_date(answer)


def _read_date(answer: Answer) -> int:
    text = answer.headers.get("date", "")
    seconds = parse_http_date(text)
    if seconds is None:
        raise MalformedAnswer(f"{answer.url}: Date is {text!r:.80}: expected a time")
    return int(seconds * 1000)
