"""What a fault is made of."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from starlette.types import Receive, Send

from flash_pipeline.exchange.answer import Answer
from flash_pipeline.exchange.faults.connections import Connection

Row: TypeAlias = list[str]
"""A candle as the exchange writes it, start first."""

CANDLE_PATHS = frozenset({"/v5/market/kline", "/v5/market/mark-price-kline"})
"""Routes whose answers are rows of candles."""


@dataclass(frozen=True)
class Ask:
    """A request that a fault is injected into."""

    path: str
    """Path of the URL."""
    query: Mapping[str, str]
    """Parameters; of one given twice the last."""
    now_ms: int
    """The exchange's clock, ms since the epoch."""
    random: Random
    """Seeded by the query and the attempt."""
    rows: Sequence[Row] = ()
    """Candles of the true answer, newest first."""
    beside: Sequence[Row] = ()
    """Candles of the query that the fault asks `beside` it."""
    interval_ms: int = 0
    """Length of the candles; 0 on other routes."""


@dataclass(frozen=True)
class Line:
    """The way to the client."""

    send: Send
    """Takes the messages of the answer."""
    receive: Receive
    """Says when the client has left."""
    connection: Connection
    """What carries it, for faults below HTTP."""
    latency_s: float
    """Seconds that a late answer takes."""


Change: TypeAlias = Callable[[Answer, Ask], Answer]
Deliver: TypeAlias = Callable[[Answer, Ask, Line], Awaitable[None]]
Reroute: TypeAlias = Callable[[Ask], dict[str, str]]


def anywhere(ask: Ask) -> bool:
    """Admit every request."""
    return bool(ask.path)


@dataclass(frozen=True)
class Fault:
    """One kind of fault; its `change` or `deliver` says in its docstring what it is."""

    change: Change | None = None
    """Makes another answer of the true one."""
    deliver: Deliver | None = None
    """Gives the answer in another way; by default it is sent at once and whole."""
    applies: Callable[[Ask], bool] = field(default=anywhere)
    """Whether this kind can happen to a request."""
    beside: Reroute | None = None
    """Makes the query whose rows the change wants as well."""

    @property
    def name(self) -> str:
        """The kind, as specifications and counts call it."""
        return self._function().__name__

    @property
    def about(self) -> str:
        """One line on what happens."""
        return (self._function().__doc__ or "").splitlines()[0]

    def _function(self) -> Change | Deliver:
        function = self.change or self.deliver
        assert function is not None, "a fault without an effect"
        return function
