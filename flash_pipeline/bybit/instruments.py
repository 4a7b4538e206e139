"""Instrument specifications: tick, quantity step, funding interval, launch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from flash_pipeline.bybit.client import BybitClient
from flash_pipeline.bybit.fields import (
    JsonObject,
    Milliseconds,
    Number,
    OptionalNumber,
    parse_row,
)
from flash_pipeline.errors import FileDamaged
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.transport import Fields

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


class PriceFilter(Fields):
    """Steps of prices."""

    tick_size: Number = Field(alias="tickSize")


class LotSizeFilter(Fields):
    """Steps of quantities."""

    qty_step: Number = Field(alias="qtyStep")
    min_order_qty: Number = Field(alias="minOrderQty")
    min_notional_value: OptionalNumber = Field(alias="minNotionalValue", default=None)
    """Absent before 2024, an empty string at times."""


class Instrument(Fields):
    """The fields that are kept of an instrument's description."""

    symbol: str
    base_coin: str = Field(alias="baseCoin")
    quote_coin: str = Field(alias="quoteCoin")
    status: str
    launch_time: Milliseconds = Field(alias="launchTime")
    prices: PriceFilter = Field(alias="priceFilter")
    lots: LotSizeFilter = Field(alias="lotSizeFilter")
    funding_interval: Annotated[int, Field(ge=0, lt=10**9)] = Field(alias="fundingInterval")
    """A JSON number, unlike the others."""


def fetch_instruments(client: BybitClient, symbols: Iterable[str]) -> pa.Table:
    """Return the specification of each symbol, in the order given, as `INSTRUMENT_SCHEMA`.

    Raises
    ------
    UnknownSymbol
        If the exchange lists no such instrument.
    MalformedAnswer
        If a field is missing or of another form than documented.
    """
    rows = [_parse(spec) for spec in client.instruments(tuple(symbols))]
    return pa.Table.from_pylist(rows, schema=INSTRUMENT_SCHEMA)


def store_instruments(table: pa.Table, path: Path) -> pa.Table:
    """Replace the stored rows of these symbols, keep those of others, and return all of them.

    A file that cannot be read is replaced: nothing of it is kept.

    Parameters
    ----------
    table : pa.Table
        Rows of `INSTRUMENT_SCHEMA`, unique by symbol.
    path : Path
        Parquet file; replaced whole or not at all.
    """
    try:
        old = read_instruments(path)
    except FileDamaged:
        old = None
    if old is not None:
        others = old.filter(pc.invert(pc.is_in(old["symbol"], table["symbol"])))
        table = pa.concat_tables([table, others.cast(INSTRUMENT_SCHEMA)])
    table = table.sort_by("symbol")
    write_parquet(table, path)
    return table


def read_instruments(path: Path) -> pa.Table | None:
    """Return the stored instruments; None where there is no file.

    Raises
    ------
    FileDamaged
        If the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise FileDamaged(f"{path} cannot be read: {error}") from error


def _parse(spec: JsonObject) -> dict[str, str | int | float | None]:
    fields = parse_row(Instrument, spec, str(spec.get("symbol"))).model_dump()
    return {**fields, **fields["prices"], **fields["lots"]}
