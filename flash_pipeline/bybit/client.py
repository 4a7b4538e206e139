"""The HTTP client: one pooled session, timeouts on every call, transient errors retried."""

import ipaddress
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pyarrow as pa
import requests
from requests.adapters import HTTPAdapter
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from flash_pipeline.bybit.answers import (
    JsonObject,
    parse_candles,
    parse_integer,
    read_envelope,
    read_rows,
)
from flash_pipeline.errors import (
    ExchangeUnreachable,
    MalformedAnswer,
    RequestRejected,
    TransientExchangeError,
    UnknownSymbol,
)
from flash_pipeline.market import Interval, TimeRange, parse_symbol

MAX_CANDLES = 1000
"""Candles in one answer at most; of a wider range the exchange returns the newest."""

MARKET_HEADER = "X-Flash-Pipeline-Market"
"""Set by the embedded exchange alone: `simulated` or `replay`."""

Query = Mapping[str, str | int]
"""Parameters of a call."""

_CONNECT_TIMEOUT_S = 5.0
_POOL_SIZE = 16


class BybitClient:
    """A client of the public market API.

    Parameters
    ----------
    base_url : str
        Such as `https://api.bybit.com`.
    session : requests.Session or None
        Injected by tests; by default one of our own.
    sleep : callable
        Waits a number of seconds between tries.
    attempts : int
        Tries of a call that fails for a transient reason, at least 1.
    read_timeout_s : float
        Seconds to wait for the next bytes of an answer.

    Raises
    ------
    ExchangeError
        From every method, the branch of the tree that fits. Transient ones are raised after
        `attempts` tries with growing pauses.
    """

    def __init__(
        self,
        base_url: str,
        *,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        attempts: int = 5,
        read_timeout_s: float = 20.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = session if session is not None else _pooled_session(base_url)
        self._retrying = Retrying(
            retry=retry_if_exception_type(TransientExchangeError),
            wait=wait_exponential(multiplier=0.5, max=15.0) + wait_random(0.0, 1.0),
            stop=stop_after_attempt(attempts),
            sleep=sleep,
            reraise=True,
        )
        self._timeout = (min(_CONNECT_TIMEOUT_S, read_timeout_s), read_timeout_s)
        self._market_kind: str | None = None

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
        self._session.close()

    def server_time(self) -> int:
        """Return the exchange's clock, ms since the epoch, UTC."""
        moment = self._get("/v5/market/time", {}).get("time")
        if not isinstance(moment, int) or isinstance(moment, bool):
            raise MalformedAnswer(f"the exchange's time is {moment!r}: expected milliseconds")
        return moment

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes these candles; only the embedded exchange can."""
        if self._market_kind is None:
            self.server_time()
        return self._market_kind == "simulated"

    def klines(self, symbol: str, interval: Interval, window: TimeRange) -> pa.Table:
        """Return the candles that open within a window, the forming one included.

        Parameters
        ----------
        window : TimeRange
            At most `MAX_CANDLES` candle starts.

        Returns
        -------
        pa.Table
            Rows of `CANDLE_SCHEMA`, oldest first; none before the listing.

        Raises
        ------
        ValueError
            If the window is wider than one answer.
        MalformedAnswer
            If a row lies off the grid or outside the window.
        """
        starts = window.candle_starts(interval)
        if not 0 < len(starts) <= MAX_CANDLES:
            raise ValueError(f"{len(starts)} candles asked at once: expected 1 to {MAX_CANDLES}")
        path = "/v5/market/kline"
        query = {
            "category": "linear",
            "symbol": parse_symbol(symbol),
            "interval": interval.value,
            "start": starts[0],
            "end": starts[-1],  # inclusive
            "limit": len(starts),
        }
        envelope = self._get(path, query, symbol=symbol)
        result = envelope.get("result")
        candles = parse_candles(read_rows(result, path), symbol)
        # Before a listing the answer can lack the symbol; it never names another.
        answered = result.get("symbol", symbol) if isinstance(result, dict) else symbol
        if answered not in (symbol, ""):
            raise MalformedAnswer(f"asked for {symbol}, answered {answered!r}", symbol=symbol)
        for start in candles["start_time"].to_pylist():
            if start not in starts:
                raise MalformedAnswer(
                    f"{symbol}: candle {start} is off the {interval.value}-minute grid "
                    f"or outside the window {window}",
                    symbol=symbol,
                )
        return candles

    def instrument(self, symbol: str) -> JsonObject:
        """Return the exchange's specification of an instrument, as it sends it.

        Raises
        ------
        UnknownSymbol
            If no linear instrument has that name.
        """
        path = "/v5/market/instruments-info"
        query = {"category": "linear", "symbol": parse_symbol(symbol)}
        rows = read_rows(self._get(path, query, symbol=symbol).get("result"), path)
        for row in rows:
            if isinstance(row, dict) and row.get("symbol") == symbol:
                return row
        raise UnknownSymbol(f"symbol {symbol!r} is not listed on the exchange", symbol=symbol)

    def launch_time(self, symbol: str) -> int:
        """Return when the exchange says it launched an instrument, ms since the epoch.

        The first candle can lie days or years off it.
        """
        return parse_integer(self.instrument(symbol).get("launchTime"), f"{symbol}: launchTime")

    def _get(self, path: str, query: Query, *, symbol: str | None = None) -> JsonObject:
        return self._retrying(self._get_once, path, query, symbol)

    def _get_once(self, path: str, query: Query, symbol: str | None) -> JsonObject:
        url = self.base_url + path
        try:
            response = self._session.get(
                url,
                params=query,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.exceptions.SSLError as error:
            raise RequestRejected(f"{url}: the TLS certificate is not valid: {error}") from error
        except requests.RequestException as error:
            host = urlsplit(url).netloc
            raise ExchangeUnreachable(
                f"the exchange at {host} does not answer: {type(error).__name__}", symbol=symbol
            ) from error
        self._market_kind = response.headers.get(MARKET_HEADER, "live")
        return read_envelope(response, symbol=symbol)


def _pooled_session(base_url: str) -> requests.Session:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=_POOL_SIZE))
    session.mount("https://", HTTPAdapter(pool_maxsize=_POOL_SIZE))
    session.headers["User-Agent"] = "flash-pipeline"
    # A proxy of the environment leads away from this machine: none for the embedded exchange.
    session.trust_env = not _is_loopback(urlsplit(base_url).hostname or "")
    return session


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
