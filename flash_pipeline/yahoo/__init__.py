"""Yahoo Finance's chart API: daily and hourly candles of shares, indices, currencies and coins."""

from flash_pipeline.yahoo.client import YahooClient

__all__ = ["YahooClient"]
