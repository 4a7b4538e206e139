"""Ends an answer at a deadline, however its bytes drip.

A read timeout starts anew with every byte, so a server that sends one now and then holds a client
for ever, within the headers as well. Here the socket itself is read against a deadline.
"""

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

_BUFFER_BYTES = 64 * 1024


class DeadlineAdapter(HTTPAdapter):
    """A pool of connections whose answers end in time.

    Parameters
    ----------
    total_s : float
        Seconds that an answer may take, from the request sent to the last byte. Reading beyond
        raises what a read timeout raises.
    pool_size : int
        Connections kept per host.
    """

    def __init__(self, total_s: float, pool_size: int) -> None:
        self._pools = _pool_classes(total_s)
        super().__init__(pool_maxsize=pool_size)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as inherited
        """Make the pools of hosts that are reached directly."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> PoolManager:  # noqa: ANN401
        """Return the pools of hosts behind a proxy; those of a SOCKS proxy stay as they are."""
        manager: PoolManager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = self._pools
        return manager


class _TimedSocket(io.RawIOBase):
    """The incoming bytes of a socket until a deadline."""

    def __init__(self, connection: socket.socket, raw: io.RawIOBase, total_s: float) -> None:
        super().__init__()
        self._connection = connection
        self._raw = raw
        self._deadline = time.monotonic() + total_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as inherited
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long as a whole")
        patience = self._connection.gettimeout()
        if patience is not None and patience <= left:
            return self._raw.readinto(buffer)
        self._connection.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        finally:
            self._connection.settimeout(patience)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _pool_classes(total_s: float) -> dict[str, type[HTTPConnectionPool]]:
    class TimedResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:  # noqa: ANN401
            super().__init__(sock, *args, **options)
            timed = _TimedSocket(sock, self.fp.detach(), total_s)
            self.fp = io.BufferedReader(timed, _BUFFER_BYTES)

    class TimedHTTPConnection(HTTPConnection):
        response_class = TimedResponse

    class TimedHTTPSConnection(HTTPSConnection):
        response_class = TimedResponse

    class TimedHTTPPool(HTTPConnectionPool):
        ConnectionCls = TimedHTTPConnection

    class TimedHTTPSPool(HTTPSConnectionPool):
        ConnectionCls = TimedHTTPSConnection

    return {"http": TimedHTTPPool, "https": TimedHTTPSPool}
