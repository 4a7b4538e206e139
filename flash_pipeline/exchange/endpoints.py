"""What each route answers: the `result` of the envelope, from a market, a query and an instant."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.book import Book
from flash_pipeline.exchange.candles import NO_CANDLES, Candles, Column
from flash_pipeline.exchange.decimals import decimal_text
from flash_pipeline.exchange.flow_book import book_at
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.listing import instrument_json
from flash_pipeline.exchange.mark import mark_columns
from flash_pipeline.exchange.query import CATEGORY, Query
from flash_pipeline.exchange.rows import rows_json
from flash_pipeline.exchange.simulation.order_flow import step_at
from flash_pipeline.exchange.simulation.price_path import STEP_MS
from flash_pipeline.exchange.source import CandleRequest, Market, invents
from flash_pipeline.exchange.tickers import ticker_json

_CURSOR = re.compile(r"first=[A-Z0-9]{2,20}&last=([A-Z0-9]{2,20})")
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


Endpoint: TypeAlias = Callable[[Call], str]
"""Maps a call to the JSON text of its result; candles are written faster than through objects."""


def server_time(call: Call) -> str:
    """Answer `/v5/market/time`."""
    return _json({"timeSecond": str(call.now_ms // 1000), "timeNano": str(call.now_ns)})


def kline(call: Call) -> str:
    """Answer `/v5/market/kline`.

    Rows are newest first, the forming candle included; `start` and `end` are both inclusive and
    mean the candles that contain them. Of a range wider than `limit` the newest rows are given.
    `symbol` is absent from an empty result, as on the exchange.
    """
    request, candles = _asked_candles(call)
    return _candle_result(request.symbol, candles.columns())


def mark_price_kline(call: Call) -> str:
    """Answer `/v5/market/mark-price-kline`: as `kline`, with five columns; in a replay no rows."""
    request, candles = _asked_candles(call)
    candles = candles if invents(call.market) else NO_CANDLES
    instrument = call.market.instruments[request.symbol]
    return _candle_result(request.symbol, mark_columns(candles, request.interval, instrument))


def instruments_info(call: Call) -> str:
    """Answer `/v5/market/instruments-info`, page by page, sorted by symbol.

    Without a `status` those that trade are given. The cursor is an opaque text in which the
    characters of a query are escaped, as on the exchange; it is taken back as it is or unescaped.
    """
    category = call.query.category()
    limit = call.query.limit(default=500, largest=1000)
    after = _parse_cursor(call.query)
    rest = [i for i in _asked_instruments(call) if i.symbol > after]
    page = rest[:limit]
    result = {
        "category": category,
        "list": [instrument_json(instrument, call.now_ms) for instrument in page],
        "nextPageCursor": _cursor(page) if len(rest) > limit else "",
    }
    return _json(result)


def tickers(call: Call) -> str:
    """Answer `/v5/market/tickers`: of one symbol, or of all that trade."""
    category = call.query.category()
    traded = [i for i in _instruments(call) if i.status(call.now_ms) == "Trading"]
    rows = (ticker_json(call.market, instrument, call.now_ms) for instrument in traded)
    return _json({"category": category, "list": [row for row in rows if row is not None]})


def funding_history(call: Call) -> str:
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
    return _json({"category": category, "list": rows})


def order_book(call: Call) -> str:
    """Answer `/v5/market/orderbook`; while it does not trade and in a replay both sides are empty.

    The book changes every `STEP_MS`, and so does its update id, which counts these steps.
    """
    call.query.category()
    instrument = call.query.instrument(call.market)
    limit = call.query.limit(default=25, largest=1000)
    flow = call.market.order_flow(instrument.symbol)
    trades = instrument.status(call.now_ms) == "Trading"
    step = step_at(call.now_ms)
    book = Book([], []) if flow is None or not trades else book_at(flow, step, limit)
    result = {
        "s": instrument.symbol,
        "b": book.bids,
        "a": book.asks,
        "ts": call.now_ms,
        "u": step,
        "seq": step,
        "cts": step * STEP_MS,
    }
    return _json(result)


ENDPOINTS: Mapping[str, Endpoint] = {
    "/v5/market/time": server_time,
    "/v5/market/kline": kline,
    "/v5/market/mark-price-kline": mark_price_kline,
    "/v5/market/tickers": tickers,
    "/v5/market/instruments-info": instruments_info,
    "/v5/market/funding/history": funding_history,
    "/v5/market/orderbook": order_book,
}
"""Every route and what answers it."""


def _json(result: dict[str, Any]) -> str:
    return json.dumps(result, separators=(",", ":"))


def _asked_candles(call: Call) -> tuple[CandleRequest, Candles]:
    """Return what a candle route was asked for, and the market's answer."""
    call.query.category(default=CATEGORY)
    symbol = call.query.instrument(call.market).symbol
    interval = call.query.interval()
    limit = call.query.limit(default=200, largest=1000)
    first, last = call.query.span("start", "end", call.now_ms)
    request = CandleRequest(symbol, interval, first, last, limit)
    return request, call.market.candles(request, call.now_ms)


def _candle_result(symbol: str, columns: Sequence[Column]) -> str:
    """Return the result of a candle route: rows newest first, without a symbol where none are."""
    named = f'"symbol":"{symbol}",' if len(columns[0]) else ""
    rows = rows_json([column[::-1] for column in columns])
    return f'{{{named}"category":"{CATEGORY}","list":{rows}}}'


def _instruments(call: Call) -> list[Instrument]:
    """Return the instrument that `symbol` names, or all of them."""
    if call.query.text("symbol") is None:
        return list(call.market.instruments.values())
    return [call.query.instrument(call.market)]


def _asked_instruments(call: Call) -> list[Instrument]:
    """Return the instruments that the `symbol` and `status` filters leave."""
    status = call.query.text("status") or "Trading"
    if status not in _STATUSES:
        raise InvalidInput(f"status {status!r} is none of {' '.join(_STATUSES)}")
    return [i for i in _instruments(call) if i.status(call.now_ms) == status]


def _cursor(page: Sequence[Instrument]) -> str:
    return quote(f"first={page[0].symbol}&last={page[-1].symbol}", safe="")


def _parse_cursor(query: Query) -> str:
    """Return the symbol that the page comes after; empty for the first page."""
    cursor = query.text("cursor")
    if cursor is None:
        return ""
    match = _CURSOR.fullmatch(unquote(cursor))
    if match is None:
        raise InvalidInput(f"cursor {cursor!r} is not one of this exchange")
    return match[1]
