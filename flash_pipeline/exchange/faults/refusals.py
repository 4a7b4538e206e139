"""Faults of the server and of what stands before it: another status, or a code of the exchange."""

from flash_pipeline.exchange import refusals as pages
from flash_pipeline.exchange.answer import Answer
from flash_pipeline.exchange.faults.fault import Ask, Fault

_RESET_MS = 200  # until a limit is renewed


def ban_403(answer: Answer, ask: Ask) -> Answer:
    """HTTP 403 "access too frequent": the address is banned for its request rate."""
    return pages.access_too_frequent()


def country_block_403(answer: Answer, ask: Ask) -> Answer:
    """HTTP 403 by the content network: the client's country is blocked."""
    return pages.country_block()


def too_many_429(answer: Answer, ask: Ask) -> Answer:
    """HTTP 429 without a word on when to come back."""
    return pages.page(429, "Too Many Requests", "Too Many Requests")


def too_many_429_retry_after(answer: Answer, ask: Ask) -> Answer:
    """HTTP 429 with `Retry-After: 1`."""
    return pages.page(429, "Too Many Requests", "Too Many Requests", retry_after=1)


def internal_error_500(answer: Answer, ask: Ask) -> Answer:
    """HTTP 500 without a body."""
    return Answer.text(500, "", "text/plain")


def bad_gateway_502(answer: Answer, ask: Ask) -> Answer:
    """HTTP 502 with a proxy's page."""
    return pages.page(502, "Bad Gateway", "502 Bad Gateway", server="nginx")


def unavailable_503(answer: Answer, ask: Ask) -> Answer:
    """HTTP 503 with a page that asks for patience."""
    return pages.page(503, "Service Unavailable", "Service Temporarily Unavailable")


def gateway_timeout_504(answer: Answer, ask: Ask) -> Answer:
    """HTTP 504 with a proxy's page."""
    return pages.page(504, "Gateway Time-out", "504 Gateway Time-out", server="nginx")


def code_10006(answer: Answer, ask: Ask) -> Answer:
    """Code 10006, the rate limit, over HTTP 200 and without a header."""
    return pages.too_many_visits(ask.now_ms)


def code_10006_with_reset(answer: Answer, ask: Ask) -> Answer:
    """Code 10006 with the headers that say when the limit is renewed."""
    return pages.too_many_visits(
        ask.now_ms,
        x_bapi_limit=600,
        x_bapi_limit_status=0,
        x_bapi_limit_reset_timestamp=ask.now_ms + _RESET_MS,
    )


def code_10000(answer: Answer, ask: Ask) -> Answer:
    """Code 10000: the exchange's own timeout, over HTTP 200."""
    return Answer.envelope(10000, "Server Timeout", ask.now_ms)


def code_10016(answer: Answer, ask: Ask) -> Answer:
    """Code 10016: a system error, over HTTP 200 and with nothing else in the envelope."""
    text = '{"retCode":10016,"retMsg":"System error. Please try again later."}'
    return Answer.text(200, text, "application/json")


def vanished_symbol(answer: Answer, ask: Ask) -> Answer:
    """Code 10001 about the symbol: the exchange has forgotten an instrument that it lists."""
    return Answer.envelope(10001, "params error: Symbol Is Invalid", ask.now_ms)


def _of_one_symbol(ask: Ask) -> bool:
    return _of_bybit(ask) and "symbol" in ask.query


def _of_bybit(ask: Ask) -> bool:
    return ask.path.startswith("/v5/")


REFUSALS = (
    Fault(ban_403),
    Fault(country_block_403),
    Fault(too_many_429),
    Fault(too_many_429_retry_after),
    Fault(internal_error_500),
    Fault(bad_gateway_502),
    Fault(unavailable_503),
    Fault(gateway_timeout_504),
    Fault(code_10006, applies=_of_bybit),
    Fault(code_10006_with_reset, applies=_of_bybit),
    Fault(code_10000, applies=_of_bybit),
    Fault(code_10016, applies=_of_bybit),
    Fault(vanished_symbol, applies=_of_one_symbol),
)
"""Every kind of this module."""
