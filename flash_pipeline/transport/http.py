"""The transport: one pooled session, transient failures tried again, never too many requests."""

import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_base,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from flash_pipeline.errors import (
    AccessDenied,
    AccessTooFrequent,
    CountryBlocked,
    ExchangeFault,
    ExchangeUnreachable,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    TerminalExchangeError,
    TransientExchangeError,
)
from flash_pipeline.market import MARKET_HEADER, iso_utc
from flash_pipeline.transport.answer import Answer
from flash_pipeline.transport.budget import RequestBudget
from flash_pipeline.transport.circuit import Circuit
from flash_pipeline.transport.hosts import Host, HostList
from flash_pipeline.transport.pauses import asked_pause_s
from flash_pipeline.transport.wire import PoliteSession, Query, Timeouts, ask

T = TypeVar("T")

MOST_BYTES = 16 * 1024 * 1024
"""Largest answer that is read, by default; 1000 candles take 90 KB."""

_TRIES_PER_HOST = 3
_OF_REQUEST = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_GARBLED_FORGIVEN = 2  # malformed answers to one call; the same from the server itself is terminal


class HttpTransport:
    """Fetches answers of one API from whichever of its hosts works; every method is thread-safe.

    The embedded exchange, once it has answered on this machine, has neither budget nor circuit:
    nobody bans from there. Any other host has, though it be the end of a tunnel on this machine.
    Where all hosts are on this machine, a proxy of the environment is not asked.

    Parameters
    ----------
    hosts : sequence of str
        Base URLs in the order of preference. The next one is asked after a few failures in a row
        of the one before, or at once where that blocks this country, redirects, is refused by a
        firewall or has no such route or certificate; the one that answers is kept.
    session : requests.Session or None
        Injected by tests; by default one of our own.
    sleep, monotonic, clock : callable
        What waits between tries; seconds of the pauses; seconds since the epoch.
    attempts : int
        Tries of a call that fails for a transient reason, at least 1, with growing pauses.
    timeouts : Timeouts
        Of each answer.
    budget : RequestBudget or None
        Shared by whatever counts together at the server; None counts nothing.
    circuit : Circuit or None
        Opened by a ban for the request rate; None for one in memory.
    most_bytes : int
        Largest answer that is read.
    user_agent : str
        What our own session calls itself.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
        attempts: int = 6,
        timeouts: Timeouts | None = None,
        budget: RequestBudget | None = None,
        circuit: Circuit | None = None,
        most_bytes: int = MOST_BYTES,
        user_agent: str = "flash-pipeline",
    ) -> None:
        tries = max(1, min(_TRIES_PER_HOST, attempts // max(1, len(hosts))))
        self._hosts = HostList(hosts, failures=tries)
        self._timeouts = Timeouts() if timeouts is None else timeouts
        # A proxy of the environment leads away from this machine.
        trust_env = not self._hosts.all_loopback
        self._session = session or PoliteSession(
            self._timeouts, trust_env=trust_env, user_agent=user_agent
        )
        self._clock = clock
        self._uncounted = RequestBudget(None, monotonic=monotonic, sleep=sleep)
        self._embedded: set[Host] = set()
        self._budget = self._uncounted if budget is None else budget
        self._circuit = Circuit(clock=clock) if circuit is None else circuit
        self._most_bytes = most_bytes
        self._reading = threading.Lock()
        self._retrying = Retrying(
            wait=wait_exponential(multiplier=0.5, max=15.0) + wait_random(0.0, 1.0),
            stop=stop_after_attempt(attempts),
            sleep=sleep,
            reraise=True,
        )

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

    def get(
        self,
        path: str,
        query: Query,
        read: Callable[[Answer], T],
        *,
        symbol: str | None = None,
    ) -> T:
        """Return what `read` makes of the answer to a GET request.

        Parameters
        ----------
        path : str
            Below the host's base URL, with a slash in front.
        query : mapping
            Parameters.
        read : callable
            Turns an answer into a value, or raises an error of the tree. Transient ones are
            tried again; a malformed answer is twice, since a body can be garbled on its way.
        symbol : str or None
            Named in errors.

        Raises
        ------
        CircuitOpen
            Without a request, while a ban for the request rate lasts.
        ExchangeError
            As `read` raises, or as the wire fails.
        """
        retrying = self._retrying.copy(retry=_TransientOrGarbled())
        value: T = retrying(self._try, path, query, read, symbol)
        return value

    def _try(
        self,
        path: str,
        query: Query,
        read: Callable[[Answer], T],
        symbol: str | None,
        left: frozenset[Host] = frozenset(),
    ) -> T:
        """Ask the current host, and others in turn where it is this one's fault alone.

        `left` are those that failed this try already: none is asked twice.
        """
        host = self._hosts.current()
        try:
            value = self._ask(host, path, query, read, symbol)
        except CountryBlocked:
            if self._hosts.block(host):
                return self._try(path, query, read, symbol, left)
            raise
        except (RequestRejected, AccessDenied) as error:
            if not _is_about_host(error):
                raise
            self._hosts.leave(host)
            left |= {host}
            if self._hosts.current() in left:
                raise
            return self._try(path, query, read, symbol, left)
        except MalformedAnswer:
            self._hosts.leave(host)  # the next of the few tries is another's
            raise
        except (ExchangeUnreachable, ExchangeFault):
            self._hosts.failed(host)
            raise
        self._hosts.answered(host)
        return value

    def _ask(
        self, host: Host, path: str, query: Query, read: Callable[[Answer], T], symbol: str | None
    ) -> T:
        budget = self._wait_turn(host, symbol)
        answer = ask(
            self._session,
            host.url + path,
            query,
            timeouts=self._timeouts,
            most_bytes=self._most_bytes,
            symbol=symbol,
        )
        if host.is_loopback and MARKET_HEADER.lower() in answer.headers:
            self._embedded.add(host)
        limited = False
        try:
            # Threads that parse side by side wrest the interpreter from one another, which takes
            # a quarter longer than taking turns.
            with self._reading:
                return read(answer)
        except RateLimited:
            limited = True
            raise
        except AccessTooFrequent as error:
            if host in self._embedded:
                raise
            raise self._opened_circuit(error) from error
        finally:
            budget.pause_for(asked_pause_s(answer.headers, self._clock(), limited=limited))

    def _wait_turn(self, host: Host, symbol: str | None) -> RequestBudget:
        """Wait until the host may be asked, and return the budget that counts it."""
        if host in self._embedded:
            self._uncounted.acquire()
            return self._uncounted
        self._circuit.check(symbol=symbol)
        self._budget.acquire()
        self._circuit.check(symbol=symbol)  # another thread may have opened it meanwhile
        return self._budget

    def _opened_circuit(self, error: AccessTooFrequent) -> AccessTooFrequent:
        until = self._circuit.open(str(error))
        return AccessTooFrequent(
            f"{error}; every call stops until {iso_utc(until)}",
            symbol=error.symbol,
            status=error.status,
            code=error.code,
            until=until,
        )


def _is_about_host(error: TerminalExchangeError) -> bool:
    """Say whether another host of the same API may answer where this one refused.

    Not after a ban, which is the address's, nor where the API itself refused the request.
    """
    refused = error.code is not None or error.status in _OF_REQUEST
    return not refused and not isinstance(error, AccessTooFrequent)


class _TransientOrGarbled(retry_base):
    """Says whether a failure of one call is worth another try."""

    def __init__(self) -> None:
        self._malformed = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        if isinstance(error, MalformedAnswer):
            self._malformed += 1
            return self._malformed <= _GARBLED_FORGIVEN
        return isinstance(error, TransientExchangeError)
