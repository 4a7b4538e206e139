"""Reads the exchange's HTTP answers: from a response to a result, or to one error of the tree."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import requests

from flash_pipeline.errors import (
    AccessDenied,
    ExchangeFault,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.market import CANDLE_COLUMNS, CANDLE_SCHEMA

JsonObject = Mapping[str, Any]

_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?", re.ASCII)
_RATE_LIMIT_CODES = {10006}
_FAULT_CODES = {10000, 10016}
_SYMBOL_CODES = {10029}
_BAD_PARAMETER = 10001
_MOST_DIGITS = 14  # as milliseconds the year 5138; a date or an int64 cannot hold any number


def read_envelope(response: requests.Response, *, symbol: str | None = None) -> JsonObject:
    """Return the envelope of a successful answer.

    Status and content type are looked at before the JSON, and `retCode` alone says whether the
    call succeeded: `retMsg` varies, and a failing answer can carry a result.

    Raises
    ------
    ExchangeError
        The branch of the tree that the status, the body or `retCode` stands for.
    """
    _check_status(response, symbol)
    try:
        envelope = response.json()
    except (ValueError, RecursionError):  # no JSON, or numbers and nesting beyond any use
        raise ExchangeFault(
            f"{response.url} answered no JSON (HTTP {response.status_code}, "
            f"{response.headers.get('Content-Type', 'no content type')})",
            symbol=symbol,
            status=response.status_code,
        ) from None
    if not isinstance(envelope, dict) or type(envelope.get("retCode")) is not int:  # nor a bool
        raise MalformedAnswer(
            f"{response.url} answered JSON without an integer retCode", symbol=symbol
        )
    message = str(envelope.get("retMsg") or "")
    _check_code(envelope["retCode"], message, response.url, symbol)
    return envelope


def read_rows(result: object, url: str) -> Sequence[Any]:
    """Return `result.list`; no rows where it is absent, as before a listing.

    Raises
    ------
    MalformedAnswer
        If the result is no object or its list no array.
    """
    rows = result.get("list", []) if isinstance(result, dict) else None
    if not isinstance(rows, list):
        raise MalformedAnswer(f"{url} answered a result without a list")
    return rows


def parse_candles(rows: Sequence[Any], symbol: str) -> pa.Table:
    """Turn kline rows of seven strings into candles, oldest first.

    Parameters
    ----------
    rows : sequence
        `[start, open, high, low, close, volume, turnover]` in any order; an empty turnover
        becomes null.
    symbol : str
        Named in errors.

    Returns
    -------
    pa.Table
        Rows of `CANDLE_SCHEMA`, sorted by start, unique.

    Raises
    ------
    MalformedAnswer
        If a row has another length, a field is no finite number, or two rows of one start differ.
    """
    parsed: dict[int, tuple[float | None, ...]] = {}
    for row in rows:
        start, values = _parse_row(row, symbol)
        if parsed.setdefault(start, values) != values:
            raise MalformedAnswer(f"{symbol}: two candles of {start} differ", symbol=symbol)
    columns = list(zip(*((start, *parsed[start]) for start in sorted(parsed)), strict=True))
    if not columns:
        return CANDLE_SCHEMA.empty_table()
    arrays = [pa.array(c, f.type) for c, f in zip(columns, CANDLE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CANDLE_SCHEMA)


def parse_number(text: object, what: str) -> float:
    """Return a finite number from one of the exchange's strings.

    Raises
    ------
    MalformedAnswer
        If it is no string of a finite number; `what` names the field.
    """
    plain = isinstance(text, str) and _NUMBER.fullmatch(text) is not None
    value = float(text) if plain else math.nan  # type: ignore[arg-type]
    if not math.isfinite(value):
        raise MalformedAnswer(f"{what} is {text!r}: expected a number in a string")
    return value


def parse_integer(text: object, what: str) -> int:
    """Return an integer from one of the exchange's strings, such as a time in milliseconds.

    Raises
    ------
    MalformedAnswer
        If it is no string of at most 14 digits; `what` names the field.
    """
    if not isinstance(text, str) or re.fullmatch(f"[0-9]{{1,{_MOST_DIGITS}}}", text) is None:
        raise MalformedAnswer(f"{what} is {text!r}: expected up to {_MOST_DIGITS} digits")
    return int(text)


def _parse_row(row: object, symbol: str) -> tuple[int, tuple[float | None, ...]]:
    if not isinstance(row, list) or len(row) != len(CANDLE_COLUMNS):
        raise MalformedAnswer(
            f"{symbol}: kline row {row!r} has not the {len(CANDLE_COLUMNS)} fields "
            f"{', '.join(CANDLE_COLUMNS)}",
            symbol=symbol,
        )
    start = parse_integer(row[0], f"{symbol}: start of a candle")
    names = CANDLE_COLUMNS[1:-1]
    values = [
        parse_number(text, f"{symbol}: {name} of candle {start}")
        for name, text in zip(names, row[1:-1], strict=True)
    ]
    turnover = None if row[-1] == "" else parse_number(row[-1], f"{symbol}: turnover of {start}")
    return start, (*values, turnover)


def _check_status(response: requests.Response, symbol: str | None) -> None:
    status, url = response.status_code, response.url
    if status == requests.codes.forbidden:
        html = "html" in response.headers.get("Content-Type", "").lower()
        banned = "too frequent" in response.text.lower()
        if html and not banned:
            reason = "this country is blocked by the exchange's front"
        else:
            reason = "access too frequent: this address is banned, wait 10 minutes"
        raise AccessDenied(f"{url} answered HTTP 403: {reason}", symbol=symbol, status=status)
    if status == requests.codes.too_many_requests:
        raise RateLimited(f"{url} answered HTTP 429", symbol=symbol, status=status)
    if status >= requests.codes.internal_server_error:
        raise ExchangeFault(f"{url} answered HTTP {status}", symbol=symbol, status=status)
    if status != requests.codes.ok:
        raise RequestRejected(f"{url} answered HTTP {status}", symbol=symbol, status=status)


def _check_code(code: int, message: str, url: str, symbol: str | None) -> None:
    if code == 0:
        return
    text = f"{url} answered code {code}: {message or 'no message'}"
    if code in _RATE_LIMIT_CODES:
        raise RateLimited(text, symbol=symbol, code=code)
    if code in _FAULT_CODES:
        raise ExchangeFault(text, symbol=symbol, code=code)
    names_symbol = code == _BAD_PARAMETER and "symbol" in message.lower()
    if symbol is not None and (code in _SYMBOL_CODES or names_symbol):
        raise UnknownSymbol(
            f"symbol {symbol!r} is not listed on the exchange ({text})", symbol=symbol, code=code
        )
    raise RequestRejected(text, symbol=symbol, code=code)
