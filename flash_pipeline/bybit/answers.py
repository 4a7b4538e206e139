"""Reads the exchange's answers: from HTTP to an envelope of known shape, or to one error."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import Field, ValidationError

from flash_pipeline.bybit.fields import JsonMilliseconds
from flash_pipeline.errors import (
    AccessDenied,
    AccessTooFrequent,
    CountryBlocked,
    ExchangeFault,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.transport import Answer, Fields, check_status, describe, require_json

R = TypeVar("R")

_ERRORS_OF_CODES: Mapping[int, type[RateLimited | ExchangeFault | CountryBlocked]] = {
    10000: ExchangeFault,  # timeout
    10006: RateLimited,
    10009: CountryBlocked,
    10016: ExchangeFault,  # server error
}
_UNKNOWN_SYMBOL = 10029
_BAD_PARAMETER = 10001
_BAN_WORDS = (b"too frequent", b"too many visits", b"rate limit")
_COUNTRY_WORDS = (b"cloudfront", b"from your country")


class Envelope(Fields, Generic[R]):
    """What surrounds the result of a successful call."""

    code: int = Field(alias="retCode")
    """0; `retMsg` varies and says nothing."""
    result: R
    """What was asked for."""
    time: JsonMilliseconds
    """The exchange's clock when it answered, ms since the epoch."""


class _Verdict(Fields):
    """The part of an envelope that failing answers have as well."""

    code: int = Field(alias="retCode")
    message: Any = Field(alias="retMsg", default=None)


def read_envelope(
    answer: Answer, shape: type[Envelope[R]], *, symbol: str | None = None
) -> Envelope[R]:
    """Return the envelope of a successful answer.

    Status and content type are looked at before the JSON, and `retCode` alone says whether the
    call succeeded: a failing answer can carry a result, and lack the rest.

    Parameters
    ----------
    answer : Answer
        What the exchange answered.
    shape : type
        The envelope with the result that the call has.
    symbol : str or None
        Instrument asked for; a complaint about a symbol is an unknown symbol then.

    Raises
    ------
    ExchangeError
        The branch of the tree that the status, the body or `retCode` stands for.
    """
    if answer.status == HTTPStatus.FORBIDDEN:
        _refuse_access(answer, symbol)
    check_status(answer, symbol=symbol)
    require_json(answer, symbol=symbol)
    try:
        envelope = shape.model_validate_json(answer.body)
    except ValidationError as error:
        _refuse_shape(answer, error, symbol)
    if envelope.code != 0:
        _refuse_code(answer, symbol)
    return envelope


def _refuse_access(answer: Answer, symbol: str | None) -> NoReturn:
    """Tell a ban for the request rate from a block of the country."""
    text = answer.body.lower()
    kind: type[AccessDenied] = AccessDenied
    reason = "neither a ban for the request rate nor a country block, as far as it says"
    if any(word in text for word in _BAN_WORDS):
        kind, reason = AccessTooFrequent, "access too frequent, this address is banned for a while"
    elif any(word in text for word in _COUNTRY_WORDS):
        kind, reason = CountryBlocked, "this country is blocked by the exchange's front"
    raise kind(
        f"{answer.url} answered HTTP 403: {reason}", symbol=symbol, status=HTTPStatus.FORBIDDEN
    )


def _refuse_shape(answer: Answer, error: ValidationError, symbol: str | None) -> NoReturn:
    """Raise what an answer that has not the shape of a success stands for."""
    if error.errors(include_url=False)[0]["type"] == "json_invalid":
        raise ExchangeFault(
            f"{answer.url} answered no JSON (HTTP {answer.status}, "
            f"{answer.media_type or 'no content type'})",
            symbol=symbol,
            status=answer.status,
        ) from None
    _refuse_code(answer, symbol)
    raise MalformedAnswer(f"{answer.url}: {describe(error)}", symbol=symbol) from error


def _refuse_code(answer: Answer, symbol: str | None) -> None:
    """Raise what `retCode` stands for, if there is one and it is no success."""
    try:
        verdict = _Verdict.model_validate_json(answer.body)
    except ValidationError:
        return
    code, message = verdict.code, str(verdict.message or "no message")
    if code == 0:
        return
    text = f"{answer.url} answered code {code}: {message}"
    if code in _ERRORS_OF_CODES:
        raise _ERRORS_OF_CODES[code](text, symbol=symbol, code=code)
    names_symbol = code == _BAD_PARAMETER and "symbol" in message.lower()
    if symbol is not None and (code == _UNKNOWN_SYMBOL or names_symbol):
        raise UnknownSymbol(
            f"symbol {symbol!r} is not listed on the exchange ({text})", symbol=symbol, code=code
        )
    raise RequestRejected(text, symbol=symbol, code=code)
