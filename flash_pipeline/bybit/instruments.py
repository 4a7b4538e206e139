"""Instrument specifications: tick, quantity step, funding interval, launch."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flash_pipeline.bybit.answers import JsonObject, parse_integer, parse_number
from flash_pipeline.bybit.client import BybitClient
from flash_pipeline.errors import MalformedAnswer
from flash_pipeline.storage.files import write_parquet

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


def store_instruments(table: pa.Table, path: Path) -> pa.Table:
    """Replace the stored rows of these symbols, keep those of others, and return all of them.

    Parameters
    ----------
    table : pa.Table
        Rows of `INSTRUMENT_SCHEMA`, unique by symbol.
    path : Path
        Parquet file; replaced whole or not at all.
    """
    if path.is_file():
        old = pq.read_table(path)
        others = old.filter(pc.invert(pc.is_in(old["symbol"], table["symbol"])))
        table = pa.concat_tables([table, others.cast(INSTRUMENT_SCHEMA)])
    table = table.sort_by("symbol")
    write_parquet(table, path)
    return table


def _parse(spec: JsonObject) -> dict[str, str | int | float | None]:
    symbol = spec["symbol"]
    try:
        lot = spec["lotSizeFilter"]
        tick_size = spec["priceFilter"]["tickSize"]
        funding_interval = str(spec["fundingInterval"])  # a JSON number, unlike the others
        minimum = lot.get("minNotionalValue") or None  # absent before 2024, "" at times
        return {
            "symbol": symbol,
            "base_coin": _text(spec, "baseCoin"),
            "quote_coin": _text(spec, "quoteCoin"),
            "status": _text(spec, "status"),
            "launch_time": parse_integer(spec["launchTime"], f"{symbol}: launchTime"),
            "tick_size": parse_number(tick_size, f"{symbol}: tickSize"),
            "qty_step": parse_number(lot["qtyStep"], f"{symbol}: qtyStep"),
            "min_order_qty": parse_number(lot["minOrderQty"], f"{symbol}: minOrderQty"),
            "min_notional_value": minimum and parse_number(minimum, f"{symbol}: minNotionalValue"),
            "funding_interval": parse_integer(funding_interval, f"{symbol}: fundingInterval"),
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswer(
            f"{symbol}: the instrument's specification lacks or garbles {error}", symbol=symbol
        ) from error


def _text(spec: JsonObject, name: str) -> str:
    value = spec[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} {value!r}")
    return value
