"""The exchange's limit on requests, with its headers, its code and its ban."""

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.answer import header_names
from flash_pipeline.exchange.refusals import access_too_frequent, too_many_visits

PERIOD_S = 5.0
"""Seconds over which requests are counted."""
BAN_S = 600.0
"""Seconds for which an address that goes on regardless is refused everything."""

_BAN_AT = 2  # times the limit


class RateLimit:
    """An application behind a limit of requests in five seconds.

    Every answer says how many requests are left and when that is renewed. Beyond the limit the
    answer is code 10006; beyond twice the limit it is HTTP 403 "access too frequent", and so is
    every answer of the next ten minutes. Seconds are this machine's, whatever the exchange's
    clock does; the renewal is told in the exchange's time.

    Parameters
    ----------
    app : ASGIApp
        What is limited, but for the route `/faults`.
    requests : int
        Allowed in `PERIOD_S` seconds, at least 1.
    now_ms : callable
        The exchange's clock, ms since the epoch.
    monotonic : callable
        Elapsed seconds.

    Raises
    ------
    InvalidConfig
        If `requests` is less than 1.
    """

    def __init__(
        self,
        app: ASGIApp,
        requests: int,
        now_ms: Callable[[], int],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests < 1:
            raise InvalidConfig(f"rate limit {requests} cannot be used: expected 1 or more")
        self._app = app
        self._most = requests
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._ends = -1.0
        self._banned_until = -1.0
        self._seen = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["path"] == "/faults":
            await self._app(scope, receive, send)
            return
        now = self._count()
        if now < self._banned_until:
            await access_too_frequent().send(send)
            return
        headers = {
            "x_bapi_limit": self._most,
            "x_bapi_limit_status": max(0, self._most - self._seen),
            "x_bapi_limit_reset_timestamp": self._now_ms() + round((self._ends - now) * 1000),
        }
        if self._seen > self._most:
            await too_many_visits(self._now_ms(), **headers).send(send)
            return
        pairs = [(name.encode(), text.encode()) for name, text in header_names(headers).items()]

        async def send_labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *pairs]
            await send(message)

        await self._app(scope, receive, send_labelled)

    def _count(self) -> float:
        """Count one request and return the time of it."""
        now = self._monotonic()
        if now >= self._ends:
            self._ends, self._seen = now + PERIOD_S, 0
        self._seen += 1
        if self._seen > _BAN_AT * self._most and now >= self._banned_until:
            self._banned_until = now + BAN_S
        return now
