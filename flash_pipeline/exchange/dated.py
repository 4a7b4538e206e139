"""What every answer carries, whoever makes it: its date and the label of its numbers."""

from collections.abc import Callable
from email.utils import formatdate

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flash_pipeline.market import MARKET_HEADER


class Dated:
    """An application whose answers are dated by the exchange's clock, and labelled.

    A client that knows no other clock of a server, as of Yahoo's, takes what is closed from it.
    The label tells a client that it speaks to this exchange: of a fault or a limit as well, so
    that it takes the ban of an injected fault for no ban of its address.

    Parameters
    ----------
    app : ASGIApp
        What answers.
    now_ms : callable
        The exchange's clock, ms since the epoch.
    market : str
        The label: `simulated` or `replay`.
    """

    def __init__(self, app: ASGIApp, now_ms: Callable[[], int], market: str) -> None:
        self._app = app
        self._now_ms = now_ms
        self._label = (MARKET_HEADER.lower().encode(), market.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the date and the label added."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._now_ms() // 1000, usegmt=True).encode()
                rest = [pair for pair in message["headers"] if pair[0].lower() != self._label[0]]
                message = {**message, "headers": [*rest, (b"date", date), self._label]}
            await send(message)

        await self._app(scope, receive, send_dated)
