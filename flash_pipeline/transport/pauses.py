"""How long a server asks its clients to wait: the headers of an answer, read with caution."""

from collections.abc import Mapping

from flash_pipeline.transport.dates import parse_http_date

LONGEST_RESET_S = 10.0
"""Longest wait for the reset of a rate limit; its window is 5 s, so more is a broken clock."""

LONGEST_RETRY_S = 60.0
"""Longest wait that `Retry-After` is granted; a ban is told by HTTP 403 instead."""

_MOST_DIGITS = 14  # of a number in a header: more is neither a time nor a pause


def asked_pause_s(headers: Mapping[str, str], now_s: float, *, limited: bool) -> float:
    """Return the seconds that an answer asks its client to wait before the next request.

    Parameters
    ----------
    headers : mapping
        By names in lower case. `x-bapi-limit-status` says how many requests are left, and where
        none is, `x-bapi-limit-reset-timestamp` says when there are again, ms since the epoch by
        the server's clock. `retry-after` is a number of seconds or a date.
    now_s : float
        This machine's clock, seconds since the epoch; the server's `date` goes before it.
    limited : bool
        Whether the answer refused the request for the rate.

    Returns
    -------
    float
        0 where nothing is asked, or nothing that can be read; bounded otherwise.
    """
    server_now_s = parse_http_date(headers.get("date", ""))
    now_s = now_s if server_now_s is None else server_now_s
    pause = 0.0
    if limited or headers.get("x-bapi-limit-status", "").strip() == "0":
        reset_ms = _parse_number(headers.get("x-bapi-limit-reset-timestamp", ""))
        if reset_ms is not None:
            pause = min(reset_ms / 1000 - now_s, LONGEST_RESET_S)
    if limited:
        pause = max(pause, min(_retry_after_s(headers, now_s), LONGEST_RETRY_S))
    return max(pause, 0.0)


def _retry_after_s(headers: Mapping[str, str], now_s: float) -> float:
    text = headers.get("retry-after", "")
    seconds = _parse_number(text)
    if seconds is not None:
        return float(seconds)
    moment = parse_http_date(text)
    return 0.0 if moment is None else moment - now_s


def _parse_number(text: str) -> int | None:
    text = text.strip()
    plain = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if plain else None
