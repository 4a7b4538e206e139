"""Order books: collected, read from Bybit's archive, stored by symbol and day, cut into windows.

    poll ──► journal ──┐
                       ├──► rebuild, checked ──► BookStore ──► BookWindows (`dataset`, needs torch)
    archive ───────────┘

Shape letters of this package: T snapshots, L levels, S sides (bid, ask), F features, H horizons,
B windows of a batch, N windows.
"""

from flash_pipeline.order_book.archive import (
    ARCHIVE_URL,
    archive_transport,
    fetch_day,
    read_archive,
)
from flash_pipeline.order_book.archived import ArchivedDays
from flash_pipeline.order_book.collector import CollectorConfig, collect
from flash_pipeline.order_book.snapshots import BOOK_SCHEMA, BookGap, BookSeries
from flash_pipeline.order_book.store import BookStore

__all__ = [
    "ARCHIVE_URL",
    "BOOK_SCHEMA",
    "ArchivedDays",
    "BookGap",
    "BookSeries",
    "BookStore",
    "CollectorConfig",
    "archive_transport",
    "collect",
    "fetch_day",
    "read_archive",
]
