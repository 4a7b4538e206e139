"""The client of Bybit's public v5 market API, and what it fetches and stores."""

from flash_pipeline.bybit.audit import audit_klines
from flash_pipeline.bybit.client import MAX_CANDLES, BybitClient
from flash_pipeline.bybit.ingest import KlineRefresh, MonthSummary, refresh_klines
from flash_pipeline.bybit.instruments import INSTRUMENT_SCHEMA, fetch_instruments, store_instruments

__all__ = [
    "INSTRUMENT_SCHEMA",
    "MAX_CANDLES",
    "BybitClient",
    "KlineRefresh",
    "MonthSummary",
    "audit_klines",
    "fetch_instruments",
    "refresh_klines",
    "store_instruments",
]
