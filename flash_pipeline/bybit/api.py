"""One call of the API: a path and a query in, an envelope of known shape out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from flash_pipeline.bybit.answers import Envelope, read_envelope
from flash_pipeline.bybit.fields import JsonObject
from flash_pipeline.bybit.rows import lift_cells
from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.transport import Answer, HttpTransport, OneMarket, Query

CATEGORY = "linear"
"""The product that is asked for: perpetuals quoted in USDT."""

R = TypeVar("R")
T = TypeVar("T")


class Api:
    """The calls of one exchange, and what is known of it from its answers.

    Parameters
    ----------
    transport : HttpTransport
        What fetches the answers.
    """

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._clock: int | None = None
        self._one_market = OneMarket("the exchange")

    @property
    def market(self) -> str | None:
        """`live`, `simulated` or `replay`; None before the first answer."""
        return self._one_market.market

    def get(
        self,
        path: str,
        query: Query,
        shape: type[Envelope[R]],
        read: Callable[[Envelope[R]], T],
        *,
        symbol: str | None = None,
    ) -> T:
        """Return what `read` makes of the envelope; what it raises is tried again if transient."""

        def read_answer(answer: Answer) -> T:
            envelope = read_envelope(answer, shape, symbol=symbol)
            self._one_market.require(answer)
            return read(envelope)

        return self._transport.get(path, query, read_answer, symbol=symbol)

    def get_rows(
        self,
        path: str,
        query: Query,
        shape: type[Envelope[R]],
        columns: int,
        read: Callable[[Envelope[R], pa.Array | None], T],
        *,
        symbol: str | None = None,
    ) -> T:
        """Return what `read` makes of the envelope and of the cells of its list.

        The cells are None where the rows are to be found in the envelope: see `lift_cells`.
        """

        def read_answer(answer: Answer) -> T:
            lifted = lift_cells(answer.body, columns)
            rest = answer if lifted is None else replace(answer, body=lifted[0])
            envelope = read_envelope(rest, shape, symbol=symbol)
            self._one_market.require(answer)
            return read(envelope, None if lifted is None else lifted[1])

        return self._transport.get(path, query, read_answer, symbol=symbol)

    def set_clock(self, time_ms: int) -> None:
        """Note what the exchange's clock was read as, ms since the epoch."""
        self._clock = time_ms

    def as_of(self, envelope: Envelope[R]) -> int:
        """Return the time that an answer holds for, ms since the epoch.

        The earlier of the answer's own and the clock read last: should either have jumped ahead,
        a candle that is still forming does not pass for closed.
        """
        return envelope.time if self._clock is None else min(envelope.time, self._clock)


def require_subject(symbol: str, answered: str, category: str = "") -> None:
    """Pass an answer about a symbol of our category; one that does not say has empty strings.

    Raises
    ------
    InconsistentAnswer
        If it is about something else.
    """
    for asked, given in ((symbol, answered), (CATEGORY, category)):
        if given not in ("", asked):
            raise InconsistentAnswer(f"asked for {asked}, answered {given!r:.80}", symbol=symbol)


def pick_rows(rows: Sequence[object], symbols: Sequence[str]) -> dict[str, JsonObject]:
    """Return the objects that describe one of the symbols, by symbol; no others are looked at.

    Raises
    ------
    InconsistentAnswer
        If two objects of one symbol differ.
    """
    wanted, found = set(symbols), dict[str, JsonObject]()
    for row in rows:
        symbol = row.get("symbol") if isinstance(row, dict) else None
        if not isinstance(row, dict) or not isinstance(symbol, str) or symbol not in wanted:
            continue
        if found.setdefault(symbol, row) != row:
            raise InconsistentAnswer(f"{symbol} is described twice, differently", symbol=symbol)
    return found
