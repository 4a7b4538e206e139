"""Fetches answers over HTTP: politely, within bounds, and again where that can help."""

from flash_pipeline.transport.answer import Answer, check_status, require_json
from flash_pipeline.transport.budget import RequestBudget
from flash_pipeline.transport.circuit import Circuit
from flash_pipeline.transport.http import HttpTransport
from flash_pipeline.transport.wire import Query, Session, Timeouts

__all__ = [
    "Answer",
    "Circuit",
    "HttpTransport",
    "Query",
    "RequestBudget",
    "Session",
    "Timeouts",
    "check_status",
    "require_json",
]
