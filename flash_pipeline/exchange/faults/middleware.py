"""The application that stands before the exchange and injects faults."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Receive, Scope, Send

from flash_pipeline.exchange.answer import JSON, Answer, answer_of
from flash_pipeline.exchange.faults.connections import Connections
from flash_pipeline.exchange.faults.decisions import Decisions, Injection
from flash_pipeline.exchange.faults.fault import CANDLE_PATHS, Ask, Fault, Line, Row
from flash_pipeline.exchange.faults.kinds import KINDS
from flash_pipeline.exchange.faults.spec import FaultSpec
from flash_pipeline.market import Interval

COUNTS_PATH = "/faults"
"""Route that tells what was injected, as JSON; it never fails itself."""

_REMEMBERED = 10_000


class Faults:
    """Faults for one server, and the record of its requests and of what was injected.

    `counts` has the faults by kind, `requests` the requests by path, `injected` the newest faults
    in their order, and `most_in_flight` is the most requests that were under way at a time.

    Parameters
    ----------
    spec : FaultSpec
        Which ones.

    Examples
    --------
    >>> faults = Faults(FaultSpec.parse("seed=7,rate=0.3"))
    >>> faults.total
    0
    """

    def __init__(self, spec: FaultSpec) -> None:
        self.spec = spec
        self.connections = Connections()
        self.counts: Counter[str] = Counter()
        self.injected: deque[Injection] = deque(maxlen=_REMEMBERED)
        self.requests: Counter[str] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self._decisions = Decisions(spec)
        self._kinds = [KINDS[name] for name in spec.kinds]

    @property
    def total(self) -> int:
        """Faults injected so far."""
        return self.counts.total()

    def wrap(self, app: ASGIApp, now_ms: Callable[[], int]) -> ASGIApp:
        """Return an application that answers as `app` does, but for the faults.

        Parameters
        ----------
        app : ASGIApp
            The exchange.
        now_ms : callable
            Its clock, ms since the epoch.
        """

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == COUNTS_PATH:
                await Answer(200, {"content-type": JSON}, b"").with_json(self.report()).send(send)
                return
            self.requests[scope["path"]] += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            try:
                await self._serve(app, now_ms(), scope, receive, send)
            finally:
                self.in_flight -= 1

        return faulty

    def report(self) -> dict[str, Any]:
        """Return what the route `/faults` tells."""
        return {
            "spec": asdict(self.spec),
            "requests": dict(sorted(self.requests.items())),
            "most_in_flight": self.most_in_flight,
            "total": self.total,
            "counts": dict(sorted(self.counts.items())),
        }

    async def _serve(
        self, app: ASGIApp, now_ms: int, scope: Scope, receive: Receive, send: Send
    ) -> None:
        parameters = parse_qsl(scope["query_string"].decode())
        attempt = self._decisions.attempt(scope["path"], parameters)
        if not attempt.fails:
            await app(scope, receive, send)
            return
        answer = await answer_of(app, scope, receive)
        ask = _ask(answer, Ask(scope["path"], dict(parameters), now_ms, attempt.random))
        possible = [fault for fault in self._kinds if fault.applies(ask)]
        if not possible:
            await answer.send(send)
            return
        fault = ask.random.choice(possible)
        self.counts[fault.name] += 1
        self.injected.append(Injection(attempt.path, attempt.query, attempt.number, fault.name))
        if fault.beside is not None:
            beside = await answer_of(app, _rerouted(scope, fault.beside(ask)), receive)
            ask = replace(ask, beside=_rows(beside))
        await self._deliver(fault, answer, ask, scope, receive, send)

    async def _deliver(
        self, fault: Fault, answer: Answer, ask: Ask, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if fault.change is not None:
            answer = fault.change(answer, ask)
        if fault.deliver is None:
            await answer.send(send)
            return
        client = scope.get("client")
        connection = self.connections.of(None if client is None else tuple(client))
        await fault.deliver(
            answer, ask, Line(send, receive, connection, self.spec.latency_ms / 1000)
        )


def _ask(answer: Answer, ask: Ask) -> Ask:
    """Return the request with the rows of its true answer, on the routes of candles."""
    if ask.path not in CANDLE_PATHS:
        return ask
    rows = _rows(answer)
    # With rows in the answer the exchange has read the interval already.
    length = Interval.parse(ask.query["interval"]).milliseconds if rows else 0
    return replace(ask, rows=rows, interval_ms=length)


def _rows(answer: Answer) -> Sequence[Row]:
    rows: list[Row] = answer.json()["result"].get("list", [])
    return rows


def _rerouted(scope: Scope, query: Mapping[str, str]) -> Scope:
    return {**scope, "query_string": urlencode(query).encode()}
