"""The exchange as a server on a thread of this process."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.app import build_app
from flash_pipeline.exchange.clock import Clock
from flash_pipeline.exchange.dated import Dated
from flash_pipeline.exchange.faults import Faults
from flash_pipeline.exchange.ratelimit import RateLimit
from flash_pipeline.exchange.simulation import SimulatedMarket
from flash_pipeline.exchange.source import Market

LOOPBACK = "127.0.0.1"
"""Where only this machine can connect."""

LOOPBACK_NAMES = (LOOPBACK, "localhost", "::1", "[::1]")
"""What a request of this machine calls the server."""

_BACKLOG = 128
_LAST_PORT = 65_535


@contextmanager
def embedded_exchange(
    *,
    market: Market | None = None,
    clock: Clock | None = None,
    faults: Faults | None = None,
    rate_limit: int | None = None,
    host: str = LOOPBACK,
    port: int = 0,
) -> Iterator[str]:
    """Serve a market while the block runs, and yield the base URL.

    The port is open before the block starts, and closed with its thread when it ends.

    Parameters
    ----------
    market : Market or None
        None for the simulated market of the default seed.
    clock : Clock or None
        None for this machine's time.
    faults : Faults or None
        What goes wrong on purpose; it counts what did. Of use for one server only.
    rate_limit : int or None
        Requests allowed in five seconds (see `RateLimit`); None for no limit and no headers.
    host : str
        Address to listen on; loopback keeps it on this machine, and a request that calls the
        server by another name, as a page of another site can make a browser do, is refused.
    port : int
        0 for one that is free.

    Yields
    ------
    str
        Such as `http://127.0.0.1:43210`, without a slash at the end.

    Raises
    ------
    InvalidInput
        If the address cannot be listened on, with the system's reason.
    InvalidConfig
        If the rate limit is less than 1.

    Examples
    --------
    >>> from urllib.request import urlopen
    >>> with embedded_exchange(clock=Clock(1719788400000, speed=0)) as url:
    ...     with urlopen(f"{url}/v5/market/time") as answer:
    ...         print(answer.headers["X-Flash-Pipeline-Market"])
    simulated
    """
    market = SimulatedMarket() if market is None else market
    clock = Clock() if clock is None else clock
    server = uvicorn.Server(_config(market, clock, faults, rate_limit, host))
    with _listen(host, port) as listener:
        thread = Thread(
            target=server.run, args=([listener],), name="embedded-exchange", daemon=True
        )
        thread.start()
        try:
            yield _url(host, listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


def is_loopback(host: str) -> bool:
    """Say whether only this machine can connect to an address or name.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _config(
    market: Market, clock: Clock, faults: Faults | None, rate_limit: int | None, host: str
) -> uvicorn.Config:
    """Return how a market is served, with what stands before it."""
    app: ASGIApp = build_app(market, clock)
    if faults is not None:
        app = faults.wrap(app, clock.now_ms)
    if rate_limit is not None:
        app = RateLimit(app, rate_limit, clock.now_ms)
    app = Dated(app, clock.now_ms, market.kind)
    if is_loopback(host):
        app = TrustedHostMiddleware(app, [*LOOPBACK_NAMES, host], www_redirect=False)
    return uvicorn.Config(
        app,
        date_header=False,  # which would be this machine's
        http="auto" if faults is None else faults.connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # faults find a connection by the client's own address
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections, so that no request comes too early."""
    if not 0 <= port <= _LAST_PORT:
        raise InvalidInput(f"port {port} is not within 0 to {_LAST_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio turns Nagle's algorithm off, which costs 40 ms an answer, only where the socket
        # names its protocol; `socket.create_server` names none.
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"cannot listen on {host}: {error.strerror}") from error
    try:
        # A port that was just left may be taken again; one in use may not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidInput(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
