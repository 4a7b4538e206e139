"""What stands before the Dagster UI, which itself asks nobody from where a request comes."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from flash_pipeline.cli.dagster_ui.command import LOOPBACK_NAMES


def guarded(app: ASGIApp, names: Collection[str] = ()) -> ASGIApp:
    """Return an app that only pages of its own, and programs, can use.

    Parameters
    ----------
    app : ASGIApp
        What is guarded.
    names : collection of str
        Hosts that it is called by besides those of loopback, such as that of a proxy; lower case.
    """
    hosts = [*LOOPBACK_NAMES, *names]
    return TrustedHostMiddleware(OwnPages(app, names), hosts, www_redirect=False)


class OwnPages:
    """Refuse what a page of another site makes a browser send, and let none frame the UI.

    - A browser names the page's site in `Origin` with every POST and every websocket. A site other
      than the one that is asked is refused; programs send none.
    - It sends none with a GET, as for an image, and Dagster would execute a mutation of the query
      string. So a GET of `/graphql` gets the page for people alone.

    Parameters
    ----------
    app : ASGIApp
        What is guarded. Its `Host` is checked already: one that an attacker chose would agree with
        the attacker's `Origin`.
    names : collection of str
        Hosts whose pages are its own even if a proxy put another `Host` in.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a websocket, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Frame-Options", "SAMEORIGIN")
            await send(message)

        app = self._app
        if refusal := self._refusal(scope):
            is_socket = scope["type"] == "websocket"
            app = WebSocketClose() if is_socket else PlainTextResponse(refusal, status_code=403)
        await app(scope, receive, send_unframed)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, headers.get("host", "")):
            return "Refused: sent by a page of another site"
        if scope["path"].endswith("/graphql") and scope.get("method") == "GET":
            is_page = "text/html" in headers.get("accept", "")
            return None if is_page else "Refused: send GraphQL by POST"
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            site = urlsplit(origin.lower())
            return site.netloc == host.lower() != "" or site.hostname in self._names
        except ValueError:  # no URL, such as http://[
            return False
