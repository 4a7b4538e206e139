"""Fetches answers over HTTP: politely, within bounds, and again where that can help."""

from flash_pipeline.transport.answer import Answer, check_status, is_json, require_json
from flash_pipeline.transport.budget import RequestBudget
from flash_pipeline.transport.circuit import Circuit
from flash_pipeline.transport.dates import parse_http_date
from flash_pipeline.transport.http import HttpTransport
from flash_pipeline.transport.onemarket import OneMarket
from flash_pipeline.transport.shapes import Fields, describe
from flash_pipeline.transport.wire import Query, Session, Timeouts

__all__ = [
    "Answer",
    "Circuit",
    "Fields",
    "HttpTransport",
    "OneMarket",
    "Query",
    "RequestBudget",
    "Session",
    "Timeouts",
    "check_status",
    "describe",
    "is_json",
    "parse_http_date",
    "require_json",
]
