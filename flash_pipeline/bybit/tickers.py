"""Tickers: the newest price, open interest, turnover and funding of each symbol."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import CATEGORY, Api, pick_rows
from flash_pipeline.bybit.fields import OptionalMilliseconds, OptionalNumber, parse_row
from flash_pipeline.market import parse_symbols
from flash_pipeline.transport import Fields

PATH = "/v5/market/tickers"
"""Route."""

TICKER_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("last_price", pa.float64()),
        pa.field("mark_price", pa.float64()),
        pa.field("index_price", pa.float64()),
        pa.field("bid_price", pa.float64()),
        pa.field("ask_price", pa.float64()),
        pa.field("price_change_24h", pa.float64()),
        pa.field("volume_24h", pa.float64()),
        pa.field("turnover_24h", pa.float64()),
        pa.field("open_interest", pa.float64()),
        pa.field("funding_rate", pa.float64()),
        pa.field("next_funding_time", pa.int64()),
    ],
    metadata={
        "time": "the exchange's clock when it answered, milliseconds since the epoch, UTC",
        "last, mark, index, bid and ask price, turnover_24h": "quote coin",
        "price_change_24h, funding_rate": "fraction",
        "volume_24h, open_interest": "base coin",
        "next_funding_time": "milliseconds since the epoch, UTC",
        "nulls": "where the exchange answers an empty string",
    },
)
"""Columns of the tickers, one row per symbol."""


class TickerResult(Fields):
    """The result of a call for tickers; each row is read when it is wanted."""

    rows: list[Any] = Field(alias="list", default=[])


class Ticker(Fields):
    """One row. An empty string is no number; a field that is absent is malformed."""

    symbol: str
    last_price: OptionalNumber = Field(alias="lastPrice")
    mark_price: OptionalNumber = Field(alias="markPrice")
    index_price: OptionalNumber = Field(alias="indexPrice")
    bid_price: OptionalNumber = Field(alias="bid1Price")
    ask_price: OptionalNumber = Field(alias="ask1Price")
    price_change_24h: OptionalNumber = Field(alias="price24hPcnt")
    volume_24h: OptionalNumber = Field(alias="volume24h")
    turnover_24h: OptionalNumber = Field(alias="turnover24h")
    open_interest: OptionalNumber = Field(alias="openInterest")
    funding_rate: OptionalNumber = Field(alias="fundingRate")
    next_funding_time: OptionalMilliseconds = Field(alias="nextFundingTime")


def fetch_tickers(api: Api, symbols: Sequence[str]) -> pa.Table:
    """Return the tickers of symbols in the order given, as `TICKER_SCHEMA`, by one request.

    A symbol that the exchange has no ticker of, as after its delisting, has no row.

    Raises
    ------
    MalformedAnswer
        If a field is missing or of another form than documented.
    """
    symbols = parse_symbols(symbols)

    def read(envelope: Envelope[TickerResult]) -> pa.Table:
        rows = pick_rows(envelope.result.rows, symbols)
        tickers = [parse_row(Ticker, rows[symbol], symbol) for symbol in symbols if symbol in rows]
        records = [{**ticker.model_dump(), "time": envelope.time} for ticker in tickers]
        return pa.Table.from_pylist(records, schema=TICKER_SCHEMA)

    # Without a symbol the answer holds all of them.
    query = {"category": CATEGORY, **({"symbol": symbols[0]} if len(symbols) == 1 else {})}
    return api.get(PATH, query, Envelope[TickerResult], read)
