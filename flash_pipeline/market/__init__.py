"""What a market is made of: symbols, intervals, times, months and the candle schema."""

from flash_pipeline.market.candles import CANDLE_COLUMNS, CANDLE_SCHEMA, empty_candles
from flash_pipeline.market.interval import Interval
from flash_pipeline.market.symbol import parse_symbol, parse_symbols
from flash_pipeline.market.time import (
    Month,
    TimeRange,
    compact_utc,
    iso_utc,
    month_range,
    parse_instant,
)

__all__ = [
    "CANDLE_COLUMNS",
    "CANDLE_SCHEMA",
    "Interval",
    "Month",
    "TimeRange",
    "compact_utc",
    "empty_candles",
    "iso_utc",
    "month_range",
    "parse_instant",
    "parse_symbol",
    "parse_symbols",
]
