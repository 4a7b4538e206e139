"""The client of Bybit's public v5 market API: strict about every answer, polite with every call."""

from flash_pipeline.bybit.client import BybitClient
from flash_pipeline.bybit.instruments import (
    INSTRUMENT_SCHEMA,
    fetch_instruments,
    read_instruments,
    store_instruments,
)
from flash_pipeline.bybit.klines import MAX_CANDLES
from flash_pipeline.bybit.order_book import MOST_LEVELS, BookAnswer
from flash_pipeline.bybit.tickers import TICKER_SCHEMA

__all__ = [
    "INSTRUMENT_SCHEMA",
    "MAX_CANDLES",
    "MOST_LEVELS",
    "TICKER_SCHEMA",
    "BookAnswer",
    "BybitClient",
    "fetch_instruments",
    "read_instruments",
    "store_instruments",
]
