"""The candle schema, the first of the data contracts."""

import pyarrow as pa

CANDLE_SCHEMA = pa.schema(
    [
        pa.field("start_time", pa.int64(), nullable=False),
        pa.field("open", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("volume", pa.float64(), nullable=False),
        pa.field("turnover", pa.float64()),
    ],
    metadata={
        "start_time": "candle open, milliseconds since the epoch, UTC",
        "open, high, low, close": "quote coin (USDT)",
        "volume": "base coin",
        "turnover": "quote coin; null where the source has none",
    },
)
"""Columns of one symbol's candles, sorted by `start_time`, unique, closed candles only."""

CANDLE_COLUMNS: tuple[str, ...] = tuple(CANDLE_SCHEMA.names)
"""Column names of `CANDLE_SCHEMA`, in order; also the order of a kline row of the exchange."""


MARK_CANDLE_SCHEMA = pa.schema(
    [field for field in CANDLE_SCHEMA if field.name not in {"volume", "turnover"}],
    metadata={
        "start_time": "candle open, milliseconds since the epoch, UTC",
        "open, high, low, close": "mark price, quote coin (USDT)",
    },
)
"""Columns of the candles of one symbol's mark price, which nobody trades: no volume."""

FUNDING_SCHEMA = pa.schema(
    [
        pa.field("funding_time", pa.int64(), nullable=False),
        pa.field("rate", pa.float64(), nullable=False),
    ],
    metadata={
        "funding_time": "settlement, milliseconds since the epoch, UTC",
        "rate": "fraction of the position's value that longs pay shorts; negative the other way",
    },
)
"""Columns of one symbol's funding, sorted by `funding_time`, unique, settled ones only."""


def empty_candles() -> pa.Table:
    """Return a table of no candles with the schema of the contract."""
    return CANDLE_SCHEMA.empty_table()
