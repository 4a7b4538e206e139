"""Instrument specifications: tick, quantity step, funding interval, launch."""

from collections.abc import Iterable

import pyarrow as pa

from flash_pipeline.bybit.answers import JsonObject, parse_integer, parse_number
from flash_pipeline.bybit.client import BybitClient
from flash_pipeline.errors import MalformedAnswer

INSTRUMENT_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("base_coin", pa.string(), nullable=False),
        pa.field("quote_coin", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("launch_time", pa.int64(), nullable=False),
        pa.field("tick_size", pa.float64(), nullable=False),
        pa.field("qty_step", pa.float64(), nullable=False),
        pa.field("min_order_qty", pa.float64(), nullable=False),
        pa.field("min_notional_value", pa.float64()),
        pa.field("funding_interval", pa.int64(), nullable=False),
    ],
    metadata={
        "launch_time": "milliseconds since the epoch, UTC, as announced: not the first candle",
        "tick_size, min_notional_value": "quote coin",
        "qty_step, min_order_qty": "base coin",
        "funding_interval": "minutes",
    },
)
"""Columns of the instruments' table, one row per symbol."""


def fetch_instruments(client: BybitClient, symbols: Iterable[str]) -> pa.Table:
    """Return the specification of each symbol, in the order given, as `INSTRUMENT_SCHEMA`.

    Raises
    ------
    UnknownSymbol
        If the exchange lists no such instrument.
    MalformedAnswer
        If a field is missing or of another form than documented.
    """
    rows = [_parse(client.instrument(symbol)) for symbol in symbols]
    return pa.Table.from_pylist(rows, schema=INSTRUMENT_SCHEMA)


def _parse(spec: JsonObject) -> dict[str, str | int | float | None]:
    symbol = spec["symbol"]
    try:
        lot = spec["lotSizeFilter"]
        tick_size = spec["priceFilter"]["tickSize"]
        minimum = lot.get("minNotionalValue") or None  # absent before 2024, "" at times
        return {
            "symbol": symbol,
            "base_coin": spec["baseCoin"],
            "quote_coin": spec["quoteCoin"],
            "status": spec["status"],
            "launch_time": parse_integer(spec["launchTime"], f"{symbol}: launchTime"),
            "tick_size": parse_number(tick_size, f"{symbol}: tickSize"),
            "qty_step": parse_number(lot["qtyStep"], f"{symbol}: qtyStep"),
            "min_order_qty": parse_number(lot["minOrderQty"], f"{symbol}: minOrderQty"),
            "min_notional_value": minimum and parse_number(minimum, f"{symbol}: minNotionalValue"),
            "funding_interval": int(spec["fundingInterval"]),
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswer(
            f"{symbol}: the instrument's specification lacks or garbles {error}", symbol=symbol
        ) from error
