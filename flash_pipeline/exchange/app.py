"""The exchange as a web application: routes, envelopes and the label of where numbers come from."""

import json
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.book_archive import BookArchives
from flash_pipeline.exchange.clock import Clock
from flash_pipeline.exchange.endpoints import ENDPOINTS, Call, Endpoint
from flash_pipeline.exchange.query import Query
from flash_pipeline.exchange.source import Market
from flash_pipeline.exchange.yahoo import YahooChart
from flash_pipeline.market import MARKET_HEADER

_OK, _BAD_PARAMETER, _SYSTEM_ERROR, _NO_ROUTE = 0, 10001, 10016, 10017


def build_app(market: Market, clock: Clock) -> Starlette:
    """Return the application that serves a market at the time of a clock.

    Parameters
    ----------
    market : Market
        Where the numbers come from.
    clock : Clock
        Read once per request, so that an answer's times agree with one another.
    """
    api = _Api(market, clock)
    return Starlette(
        routes=[
            *(Route(path, api.route(endpoint)) for path, endpoint in ENDPOINTS.items()),
            Route("/v8/finance/chart/{ticker}", api.chart),
            Route("/orderbook/linear/{symbol}/{name}", api.book_archive),
        ],
        exception_handlers={HTTPException: api.on_http_error, Exception: api.on_fault},
    )


class _Api:
    """Wraps results and refusals into envelopes."""

    def __init__(self, market: Market, clock: Clock) -> None:
        self._market = market
        self._clock = clock
        self._yahoo = YahooChart(market)
        self._archives = BookArchives(market)

    def route(self, endpoint: Endpoint) -> Any:  # noqa: ANN401 - Starlette's own type for it
        # Coroutines all run on the server's one thread: a market needs no locks for it.
        async def answer(request: Request) -> Response:
            now_ns = self._clock.now_ns()
            try:
                result = endpoint(
                    Call(self._market, Query(request.query_params.multi_items()), now_ns)
                )
            except InvalidInput as error:
                return self._envelope(_BAD_PARAMETER, f"params error: {error}", now_ns=now_ns)
            return self._envelope(_OK, "OK", result, now_ns=now_ns)

        return answer

    async def chart(self, request: Request) -> Response:
        """Answer Yahoo's route, in Yahoo's form."""
        ticker, parameters = request.path_params["ticker"], dict(request.query_params)
        answer = self._yahoo.answer(ticker, parameters, self._clock.now_ms())
        headers = {**answer.headers, MARKET_HEADER: self._market.kind}
        return Response(answer.body, answer.status, headers)

    async def book_archive(self, request: Request) -> Response:
        """Answer a day of an order book as Bybit's archive does; one not known yet is no route."""
        symbol, name = request.path_params["symbol"], request.path_params["name"]
        archive = self._archives.find(symbol, name, self._clock.now_ms())
        if archive is None:
            raise HTTPException(404)
        # A day takes seconds to make: not on the server's one thread.
        body = await run_in_threadpool(self._archives.read, archive)
        headers = {MARKET_HEADER: self._market.kind}
        return Response(body, media_type="application/zip", headers=headers)

    async def on_http_error(self, request: Request, error: Exception) -> Response:
        """Answer an unknown route or method."""
        assert isinstance(error, HTTPException)
        message = f"{error.detail}: {request.method} {request.url.path}"
        return self._envelope(_NO_ROUTE, message, status=error.status_code)

    async def on_fault(self, request: Request, error: Exception) -> Response:
        """Answer a request that this exchange failed on; the server logs the traceback."""
        message = f"System error at {request.url.path}: {type(error).__name__}"
        return self._envelope(_SYSTEM_ERROR, message, status=500)

    def _envelope(
        self,
        code: int,
        message: str,
        result: str = "{}",
        *,
        status: int = 200,
        now_ns: int | None = None,
    ) -> Response:
        now_ns = self._clock.now_ns() if now_ns is None else now_ns
        head = f'"retCode":{code},"retMsg":{json.dumps(message)}'
        tail = f'"retExtInfo":{{}},"time":{now_ns // 1_000_000}'
        return Response(
            f'{{{head},"result":{result},{tail}}}',
            status_code=status,
            media_type="application/json",
            headers={MARKET_HEADER: self._market.kind},
        )
