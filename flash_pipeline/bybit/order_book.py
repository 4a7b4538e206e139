"""Order books: the best levels of both sides at one instant."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import CATEGORY, Api, require_subject
from flash_pipeline.bybit.fields import JsonMilliseconds, Number, parse_row
from flash_pipeline.errors import InconsistentAnswer, InvalidInput
from flash_pipeline.market import parse_symbol
from flash_pipeline.transport import Fields

PATH = "/v5/market/orderbook"
"""Route."""

MOST_LEVELS = 1000
"""Levels of each side in one answer at most."""

Level = tuple[str, str]
"""Price and size, as the exchange writes them."""

Pair = Annotated[list[str], Field(min_length=2, max_length=2)]
"""A level in an answer."""


class _Book(Fields):
    symbol: str = Field(alias="s", default="")
    bids: list[Pair] = Field(alias="b")
    asks: list[Pair] = Field(alias="a")
    time: JsonMilliseconds = Field(alias="ts")
    update: int = Field(alias="u")


class _Level(Fields):
    price: Number
    size: Number


@dataclass(frozen=True)
class BookAnswer:
    """A snapshot of an order book."""

    symbol: str
    """Instrument."""
    time: int
    """When the exchange made it, ms since the epoch, UTC."""
    update_id: int
    """Of the newest change in it."""
    bids: tuple[Level, ...]
    """The best first: descending in price."""
    asks: tuple[Level, ...]
    """The best first: ascending in price."""


def fetch_book(api: Api, symbol: str, levels: int) -> BookAnswer:
    """Return the book of a symbol, checked.

    Parameters
    ----------
    levels : int
        Of each side at most, 1 to `MOST_LEVELS`.

    Returns
    -------
    BookAnswer
        Both sides may be empty, as before the listing, and either may have fewer levels.

    Raises
    ------
    InvalidInput
        For a number of levels out of range.
    InconsistentAnswer
        If the answer is about another symbol, has more levels than asked, unsorted or repeated
        ones, a price or size that is not above 0, or is crossed: a best bid at or above the best
        ask.
    MalformedAnswer
        If a field is missing or of another form than documented.
    """
    parse_symbol(symbol)
    if not 1 <= levels <= MOST_LEVELS:
        raise InvalidInput(f"levels={levels} of an order book: expected 1 to {MOST_LEVELS}")

    def read(envelope: Envelope[_Book]) -> BookAnswer:
        book = envelope.result
        require_subject(symbol, book.symbol)
        bids = _side(book.bids, symbol, levels, "bid", -1)
        asks = _side(book.asks, symbol, levels, "ask", 1)
        if len(bids) and len(asks) and bids[0, 0] >= asks[0, 0]:
            raise InconsistentAnswer(
                f"the book of {symbol} is crossed: bid {bids[0, 0]}, ask {asks[0, 0]}",
                symbol=symbol,
            )
        return BookAnswer(symbol, book.time, book.update, _texts(book.bids), _texts(book.asks))

    query: dict[str, str | int] = {"category": CATEGORY, "symbol": symbol, "limit": levels}
    return api.get(PATH, query, Envelope[_Book], read, symbol=symbol)


def _texts(rows: list[list[str]]) -> tuple[Level, ...]:
    return tuple((price, size) for price, size in rows)


def _side(
    rows: list[list[str]], symbol: str, levels: int, name: str, direction: int
) -> npt.NDArray[np.float64]:
    """Return the prices and sizes of a side, [levels, 2]."""
    if len(rows) > levels:
        raise InconsistentAnswer(
            f"asked for {levels} levels of {symbol}, answered {len(rows)}", symbol=symbol
        )
    values = np.array([_numbers(row, symbol) for row in rows]).reshape(-1, 2)
    ordered = direction * np.diff(values[:, 0]) > 0
    bad = np.flatnonzero(~((values > 0).all(axis=1) & np.append(True, ordered)[: len(rows)]))
    if len(bad):
        raise InconsistentAnswer(
            f"{name} {bad[0] + 1} of {symbol} is {rows[bad[0]]!r:.80}: expected a price and a size "
            "above 0, further from the touch than the level before",
            symbol=symbol,
        )
    return values


def _numbers(row: list[str], symbol: str) -> tuple[float, float]:
    level = parse_row(_Level, dict(zip(("price", "size"), row, strict=False)), symbol)
    return level.price, level.size
