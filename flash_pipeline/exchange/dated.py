"""The `Date` of every answer."""

from collections.abc import Callable
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Dated:
    """An application whose answers are dated by the exchange's clock.

    A client that knows no other clock of a server, as of Yahoo's, takes what is closed from it.

    Parameters
    ----------
    app : ASGIApp
        What answers.
    now_ms : callable
        The exchange's clock, ms since the epoch.
    """

    def __init__(self, app: ASGIApp, now_ms: Callable[[], int]) -> None:
        self._app = app
        self._now_ms = now_ms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the date added."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._now_ms() // 1000, usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        await self._app(scope, receive, send_dated)
