"""The exchange's list of instruments, whole or by symbol, as the exchange describes them."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import CATEGORY, Api, pick_rows
from flash_pipeline.bybit.fields import JsonObject
from flash_pipeline.errors import InconsistentAnswer, UnknownSymbol
from flash_pipeline.market import parse_symbol, parse_symbols
from flash_pipeline.transport import Fields, Query

PATH = "/v5/market/instruments-info"
"""Route."""

PAGE_ROWS = 1000
"""Instruments of one page at most; by default the exchange answers half as many."""

_MOST_PAGES = 100
# Without a status the exchange answers what trades; the others are asked for one by one.
_STATUSES = (None, "PreLaunch", "Delivering", "Closed")
_NO_LONGER_TRADED = frozenset({"Settling", "Delivering", "Closed"})


class ListingPage(Fields):
    """The result of a call for instruments; each row is read when it is wanted."""

    rows: list[Any] = Field(alias="list", default=[])
    cursor: str = Field(alias="nextPageCursor", default="")


def list_instruments(api: Api, symbols: Sequence[str] | None = None) -> tuple[JsonObject, ...]:
    """Return the descriptions of symbols in the order given, or of all that trade.

    Several symbols are looked up in the list of all, by as few pages as it takes; one, and those
    that are not in the list, are asked for singly, whatever their status.

    Raises
    ------
    UnknownSymbol
        If no linear instrument of any status has that name.
    """
    if symbols is None:
        return tuple(row for page in _pages(api) for row in page if isinstance(row, dict))
    symbols = parse_symbols(symbols)
    listed = _look_up(api, symbols) if len(symbols) > 1 else {}
    return tuple(listed.get(symbol) or find_instrument(api, symbol) for symbol in symbols)


def list_ever(api: Api) -> tuple[JsonObject, ...]:
    """Return the descriptions of all that trades and of all that was delisted, each once.

    What is announced and has not been launched yet is not among them.
    """
    found: dict[str, JsonObject] = {}
    for status in (None, "Delivering", "Closed"):
        for page in _pages(api, status):
            for row in page:
                if isinstance(row, dict) and isinstance(row.get("symbol"), str):
                    found.setdefault(row["symbol"], row)
    return tuple(found.values())


def find_instrument(api: Api, symbol: str) -> JsonObject:
    """Return the description of one symbol, whatever its status.

    Raises
    ------
    UnknownSymbol
        If no linear instrument has that name.
    """
    parse_symbol(symbol)
    for status in _STATUSES:
        wanted = {"status": status} if status else {}
        rows = _page(api, {"symbol": symbol, **wanted}, symbol).rows
        found = pick_rows(rows, [symbol])
        if found:
            return found[symbol]
    raise UnknownSymbol(f"symbol {symbol!r} is not listed on the exchange", symbol=symbol)


def find_delisted(api: Api, symbols: Sequence[str]) -> frozenset[str]:
    """Return those of the symbols that trade no more; others trade or are about to.

    Raises
    ------
    UnknownSymbol
        If the exchange never listed one, or has forgotten it.
    """
    rows = list_instruments(api, symbols)
    return frozenset(row["symbol"] for row in rows if row.get("status") in _NO_LONGER_TRADED)


def _look_up(api: Api, symbols: Sequence[str]) -> dict[str, JsonObject]:
    found: dict[str, JsonObject] = {}
    for page in _pages(api):
        found |= pick_rows(page, symbols)
        if len(found) == len(symbols):
            break
    return found


def _pages(api: Api, status: str | None = None) -> Iterator[list[Any]]:
    """Yield the pages of all that trades, or of another status.

    Raises
    ------
    InconsistentAnswer
        If a cursor comes twice, or they do not end.
    """
    cursor, seen = "", {""}
    wanted = {"status": status} if status else {}
    for _ in range(_MOST_PAGES):
        after = {"cursor": cursor} if cursor else {}
        page = _page(api, {"limit": PAGE_ROWS, **wanted, **after})
        yield page.rows
        cursor = page.cursor
        # The exchange gives a cursor with its last page at times: an empty one follows then.
        if not cursor or not page.rows:
            return
        if cursor in seen:
            raise InconsistentAnswer(f"the cursor {cursor!r:.80} of the instruments came twice")
        seen.add(cursor)
    raise InconsistentAnswer(f"the instruments do not end after {_MOST_PAGES} pages")


def _page(api: Api, wanted: Query, symbol: str | None = None) -> ListingPage:
    query = {"category": CATEGORY, **wanted}
    return api.get(PATH, query, Envelope[ListingPage], lambda e: e.result, symbol=symbol)
