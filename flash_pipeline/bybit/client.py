"""The client of Bybit's public market API: a source of candles, funding, tickers and listings."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from flash_pipeline.bybit.api import Api
from flash_pipeline.bybit.clock import read_clock
from flash_pipeline.bybit.fields import JsonObject
from flash_pipeline.bybit.funding import fetch_funding
from flash_pipeline.bybit.klines import MARK, MAX_CANDLES, TRADES, fetch_candles
from flash_pipeline.bybit.listing import (
    find_delisted,
    find_instrument,
    list_ever,
    list_instruments,
)
from flash_pipeline.bybit.order_book import BookAnswer, fetch_book
from flash_pipeline.bybit.tickers import fetch_tickers
from flash_pipeline.market import CandleAnswer, Interval, TimeRange
from flash_pipeline.transport import Circuit, HttpTransport, RequestBudget, Session, Timeouts

ADDRESS_BUDGET = RequestBudget()
"""Requests of this process: the exchange counts them per address, whichever client sends them."""

_CONNECT_TIMEOUT_S = 5.0
_TOTAL_PER_READ = 3  # a whole answer may take so many read timeouts


class BybitClient:
    """A client of the public market API; every method may be called from several threads.

    Parameters
    ----------
    base_urls : str or sequence of str
        Hosts in the order of preference, such as `https://api.bybit.com`.
    circuit_file : Path or None
        Where a ban for the request rate is written down, for the next process to keep quiet too.
    session : Session or None
        Injected by tests; by default one of our own.
    sleep : callable
        Waits a number of seconds between tries.
    attempts : int
        Tries of a call that fails for a transient reason, at least 1.
    read_timeout_s : float
        Seconds to wait for the next bytes of an answer; a whole one may take three times as long.
    budget : RequestBudget or None
        By default the one that all clients of this process share.

    Raises
    ------
    ExchangeError
        From every method, the branch of the tree that fits. Transient ones are raised after
        `attempts` tries with growing pauses.
    """

    name = "bybit"
    """Name in tables and metadata."""
    continuous = True
    """Perpetuals trade around the clock."""
    most_candles = MAX_CANDLES
    """Candle starts in one window at most."""

    def __init__(
        self,
        base_urls: str | Sequence[str],
        *,
        circuit_file: Path | None = None,
        session: Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 6,
        read_timeout_s: float = 20.0,
        budget: RequestBudget | None = None,
    ) -> None:
        self._transport = HttpTransport(
            [base_urls] if isinstance(base_urls, str) else base_urls,
            session=session,
            sleep=sleep,
            attempts=attempts,
            timeouts=Timeouts(
                connect_s=min(_CONNECT_TIMEOUT_S, read_timeout_s),
                read_s=read_timeout_s,
                total_s=_TOTAL_PER_READ * read_timeout_s,
            ),
            budget=ADDRESS_BUDGET if budget is None else budget,
            circuit=Circuit(circuit_file),
        )
        self._api = Api(self._transport)

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

    def server_time(self) -> int:
        """Return the exchange's clock, ms since the epoch, UTC."""
        return read_clock(self._api)

    def now(self) -> int:
        """Return the exchange's clock, as every source calls it."""
        return self.server_time()

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes these candles; only the embedded exchange can."""
        if self._api.market is None:
            self.server_time()
        return self._api.market == "simulated"

    def candles(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return the closed candles that open within a window of at most 1000 starts."""
        return fetch_candles(self._api, TRADES, symbol, interval, window)

    def mark_klines(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return closed candles of the mark price as `candles` does those of the trades."""
        return fetch_candles(self._api, MARK, symbol, interval, window)

    def funding(self, symbol: str, window: TimeRange) -> pa.Table:
        """Return the funding settled within a window of any width, as `FUNDING_SCHEMA`."""
        return fetch_funding(self._api, symbol, window)

    def tickers(self, symbols: Sequence[str]) -> pa.Table:
        """Return the newest figures of the symbols, as `TICKER_SCHEMA`, by one request."""
        return fetch_tickers(self._api, symbols)

    def order_book(self, symbol: str, levels: int) -> BookAnswer:
        """Return the best levels of both sides of a symbol's book, 1 to 1000 of each."""
        return fetch_book(self._api, symbol, levels)

    def instruments(self, symbols: Sequence[str] | None = None) -> tuple[JsonObject, ...]:
        """Return descriptions of instruments, as the exchange sends them.

        Those of the symbols, in their order and whatever their status, or of all that trade.
        """
        return list_instruments(self._api, symbols)

    def ever_listed(self) -> tuple[JsonObject, ...]:
        """Return descriptions of all instruments that trade or did, as the exchange sends them."""
        return list_ever(self._api)

    def instrument(self, symbol: str) -> JsonObject:
        """Return the exchange's description of an instrument, as it sends it."""
        return find_instrument(self._api, symbol)

    def delisted(self, symbols: Sequence[str]) -> frozenset[str]:
        """Return those of the symbols that trade no more; others trade or are about to."""
        return find_delisted(self._api, symbols)
