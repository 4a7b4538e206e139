"""Candles in files: Bybit's monthly archives and recorded folders, for backfills in bulk.

    BTCUSDT_60_2024-06-01_2024-06-30.csv.gz    a month of Bybit's archive
    BTCUSDT_60.parquet, BTCUSDT_60.csv         a recording

find_files ──► read_file (monthly, recordings) ──► rows checked ──► read_history, of one symbol
"""

from flash_pipeline.archives.files import FORMATS, CandleFile, find_files
from flash_pipeline.archives.history import History, read_file, read_history

__all__ = ["FORMATS", "CandleFile", "History", "find_files", "read_file", "read_history"]
