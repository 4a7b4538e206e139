"""What each route answers: the `result` of the envelope, from a market, a query and an instant."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.book import Book, make_book
from flash_pipeline.exchange.decimals import decimal_text
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.listing import instrument_json
from flash_pipeline.exchange.query import CATEGORY, Query
from flash_pipeline.exchange.source import CandleRequest, Market

Result: TypeAlias = dict[str, Any]

_BOOK_UPDATE_MS = 100  # the exchange numbers its books' updates; so often it makes one
_CURSOR = "after:"
_STATUSES = ("PreLaunch", "Trading", "Delivering", "Closed")


@dataclass(frozen=True)
class Call:
    """One request."""

    market: Market
    """What is asked."""
    query: Query
    """What for."""
    now_ns: int
    """When, by the exchange's clock, ns since the epoch."""

    @property
    def now_ms(self) -> int:
        """When, in ms since the epoch."""
        return self.now_ns // 1_000_000


Endpoint: TypeAlias = Callable[[Call], Result]


def server_time(call: Call) -> Result:
    """Answer `/v5/market/time`."""
    return {"timeSecond": str(call.now_ms // 1000), "timeNano": str(call.now_ns)}


def kline(call: Call) -> Result:
    """Answer `/v5/market/kline`.

    Rows are newest first, the forming candle included; `start` and `end` are both inclusive and
    mean the candles that contain them. Of a range wider than `limit` the newest rows are given.
    `symbol` is absent from an empty result, as on the exchange.
    """
    category = call.query.category(default=CATEGORY)
    symbol = call.query.instrument(call.market).symbol
    interval = call.query.interval()
    limit = call.query.limit(default=200, largest=1000)
    first, last = call.query.span("start", "end", call.now_ms)
    request = CandleRequest(symbol, interval, first, last, limit)
    candles = call.market.candles(request, call.now_ms)
    starts, *numbers = (column[::-1].tolist() for column in candles.columns())
    texts = [list(map(decimal_text, column)) for column in numbers]
    rows = list(zip(map(str, starts), *texts, strict=True))
    named = {"symbol": symbol} if rows else {}
    return {**named, "category": category, "list": rows}


def instruments_info(call: Call) -> Result:
    """Answer `/v5/market/instruments-info`, page by page.

    Instruments that launch after the clock are not told; every one that is trades.
    """
    category = call.query.category()
    limit = call.query.limit(default=500, largest=1000)
    listed = [i for i in _asked_instruments(call) if i.launch_ms <= call.now_ms]
    after = _parse_cursor(call.query)
    rest = [instrument for instrument in listed if instrument.symbol > after]
    page = rest[:limit]
    return {
        "category": category,
        "list": [instrument_json(instrument) for instrument in page],
        "nextPageCursor": _CURSOR + page[-1].symbol if len(rest) > limit else "",
    }


def funding_history(call: Call) -> Result:
    """Answer `/v5/market/funding/history`: newest first, both ends inclusive."""
    category = call.query.category()
    symbol = call.query.instrument(call.market).symbol
    limit = call.query.limit(default=200, largest=200)
    if call.query.whole("startTime") is not None and call.query.whole("endTime") is None:
        raise InvalidInput("startTime without endTime is not allowed")
    first, last = call.query.span("startTime", "endTime", call.now_ms)
    rates = call.market.funding(symbol, first, last, limit, call.now_ms)
    rows = [
        {
            "symbol": symbol,
            "fundingRate": decimal_text(rate.rate),
            "fundingRateTimestamp": str(rate.time_ms),
        }
        for rate in reversed(rates)
    ]
    return {"category": category, "list": rows}


def order_book(call: Call) -> Result:
    """Answer `/v5/market/orderbook`; before the listing both sides are empty."""
    call.query.category()
    instrument = call.query.instrument(call.market)
    limit = call.query.limit(default=25, largest=1000)
    price = call.market.last_price(instrument.symbol, call.now_ms)
    book = Book([], []) if price is None else make_book(instrument, price, call.now_ms, limit)
    return {
        "s": instrument.symbol,
        "b": book.bids,
        "a": book.asks,
        "ts": call.now_ms,
        "u": call.now_ms // _BOOK_UPDATE_MS,
        "seq": call.now_ms,
        "cts": call.now_ms,
    }


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v5/market/time": server_time,
    "/v5/market/kline": kline,
    "/v5/market/instruments-info": instruments_info,
    "/v5/market/funding/history": funding_history,
    "/v5/market/orderbook": order_book,
}
"""Every route and what answers it."""


def _asked_instruments(call: Call) -> list[Instrument]:
    """Return the instruments that the `symbol` and `status` filters leave."""
    status = call.query.text("status") or "Trading"
    if status not in _STATUSES:
        raise InvalidInput(f"status {status!r} is none of {' '.join(_STATUSES)}")
    if call.query.text("symbol") is None:
        asked = list(call.market.instruments.values())
    else:
        asked = [call.query.instrument(call.market)]
    return asked if status == "Trading" else []


def _parse_cursor(query: Query) -> str:
    """Return the symbol that the page comes after; empty for the first page."""
    cursor = query.text("cursor") or _CURSOR
    if not cursor.startswith(_CURSOR):
        raise InvalidInput(f"cursor {cursor!r} is not one of this exchange")
    return cursor.removeprefix(_CURSOR)
