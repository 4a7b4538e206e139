"""Control of the connections below HTTP: a server protocol that remembers its transports."""

import asyncio
import socket
import struct
from typing import TypeAlias

from uvicorn.protocols.http.h11_impl import H11Protocol

Address: TypeAlias = tuple[str, int]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, no time: closing sends RST instead of FIN


class Connection:
    """One client's connection.

    Parameters
    ----------
    transport : asyncio.Transport or None
        None where there is no network, as in a test of the application alone.
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport
        self.waiting = False  # on purpose, for the client to leave

    def reset(self) -> None:
        """End the connection by a TCP reset, dropping what was not sent."""
        if self._transport is not None and not self._transport.is_closing():
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def close(self) -> None:
        """End the connection after what was sent, as a server that stops."""
        if self._transport is not None:
            self._transport.close()


class Connections:
    """The open connections of a server, by the client's address."""

    def __init__(self) -> None:
        self._open: dict[Address, Connection] = {}

    def of(self, address: Address | None) -> Connection:
        """Return the connection of a request's client."""
        return self._open.get(address or ("", 0)) or Connection(None)

    def protocol(self) -> type[asyncio.Protocol]:
        """Return the protocol class for a server whose connections are to be kept here."""
        opened = self._open

        class WatchedProtocol(H11Protocol):
            """HTTP/1.1 as ever, with its connection on record."""

            _address: Address

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                self._address = transport.get_extra_info("peername")[:2]
                opened[self._address] = Connection(transport)

            def connection_lost(self, exc: Exception | None) -> None:
                opened.pop(self._address, None)
                super().connection_lost(exc)

            def shutdown(self) -> None:
                # A request that hangs on purpose would hold up the end of the server.
                connection = opened.get(self._address)
                if connection is not None and connection.waiting:
                    connection.reset()
                super().shutdown()

        return WatchedProtocol
