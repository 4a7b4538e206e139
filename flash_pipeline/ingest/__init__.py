"""Brings candles, funding and tickers of any source into the files, and checks them there."""

from flash_pipeline.ingest.audit import audit_completeness, audit_klines
from flash_pipeline.ingest.coverage import first_lacking
from flash_pipeline.ingest.forgotten import ask_about_known
from flash_pipeline.ingest.funding import (
    FundingRefresh,
    audit_funding,
    doubt_funding,
    refresh_funding,
)
from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.ingest.klines import refresh_klines
from flash_pipeline.ingest.ledger import GAP_SCHEMA, REVISION_SCHEMA, Ledger
from flash_pipeline.ingest.marks import MarkPrices, mark_price_name
from flash_pipeline.ingest.outcome import (
    KlineRefresh,
    MonthSummary,
    combine,
    refuse_empty,
)
from flash_pipeline.ingest.plausibility import doubt_klines
from flash_pipeline.ingest.sources import SourceRouter, open_sources
from flash_pipeline.ingest.windows import REREAD_CANDLES

__all__ = [
    "GAP_SCHEMA",
    "REREAD_CANDLES",
    "REVISION_SCHEMA",
    "FundingRefresh",
    "Gap",
    "GapCause",
    "KlineRefresh",
    "Ledger",
    "MarkPrices",
    "MonthSummary",
    "SourceRouter",
    "ask_about_known",
    "audit_completeness",
    "audit_funding",
    "audit_klines",
    "combine",
    "doubt_funding",
    "doubt_klines",
    "first_lacking",
    "mark_price_name",
    "open_sources",
    "refresh_funding",
    "refresh_klines",
    "refuse_empty",
]
