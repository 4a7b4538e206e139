"""What a market is made of: symbols, intervals, times, months and the candle schema."""

from flash_pipeline.market.candles import (
    CANDLE_COLUMNS,
    CANDLE_SCHEMA,
    FUNDING_SCHEMA,
    MARK_CANDLE_SCHEMA,
    empty_candles,
)
from flash_pipeline.market.interval import Interval
from flash_pipeline.market.label import MARKET_HEADER
from flash_pipeline.market.source import (
    CandleAnswer,
    FundingSource,
    MarketSource,
    MarkPriceSource,
)
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
    "FUNDING_SCHEMA",
    "MARKET_HEADER",
    "MARK_CANDLE_SCHEMA",
    "CandleAnswer",
    "FundingSource",
    "Interval",
    "MarkPriceSource",
    "MarketSource",
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
