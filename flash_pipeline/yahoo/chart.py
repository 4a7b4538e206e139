"""Reads chart answers: from HTTP to columns of numbers, or to one error."""

from dataclasses import dataclass
from http import HTTPStatus
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from flash_pipeline.errors import (
    ExchangeFault,
    InconsistentAnswer,
    MalformedAnswer,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.transport import Answer, check_status, describe, require_json
from flash_pipeline.yahoo.shapes import Body, Failure, FailureBody, Period, Result

_TELLING = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}
_VOLUME_IN_QUOTE = {"CRYPTOCURRENCY", "CURRENCY"}
_NO_ROWS = "data doesn't exist for startdate"
_SAME_GRANULARITY = {"1h": {"1h", "60m"}, "1d": {"1d"}}
_SHOWN = 80  # characters of a bad value in a message


@dataclass(frozen=True)
class Chart:
    """The rows of one ticker, as Yahoo has them."""

    opens: npt.NDArray[np.int64]
    """Open of each bar [rows], seconds since the epoch, oldest first, unique."""
    values: npt.NDArray[np.float64]
    """Open, high, low, close and volume [rows, 5]; NaN where null."""
    zone: ZoneInfo
    """Time zone of the exchange."""
    session: Period | None
    """A regular session: today's, or the last or next one."""
    last_trade: int | None
    """Newest trade that the chart knows of, seconds since the epoch."""
    volume_in_quote: bool = False
    """Whether volumes are values in the quote currency, as those of cryptocurrencies are."""


def read_chart(answer: Answer, symbol: str, ticker: str, granularity: str) -> Chart | None:
    """Return the chart that was asked for; None where Yahoo says that it has no rows.

    Parameters
    ----------
    answer : Answer
        What Yahoo answered.
    symbol, ticker : str
        Our name of it, for messages, and Yahoo's.
    granularity : str
        `1h` or `1d`, as asked. Yahoo answers another one where that suits it.

    Raises
    ------
    UnknownSymbol
        If there is no such ticker.
    InconsistentAnswer
        If it is the chart of another ticker or granularity, or two rows of one time differ.
    ExchangeError
        The branch of the tree that the status or the body stands for otherwise.
    """
    if answer.status in _TELLING and _has_no_rows(answer, symbol, ticker):
        return None
    check_status(answer, symbol=symbol)
    require_json(answer, symbol=symbol)
    result = _read_result(answer, symbol, ticker)
    if result is None:
        return None
    meta = result.meta
    for asked, given in (
        ({ticker.upper()}, meta.symbol.upper()),
        (_SAME_GRANULARITY[granularity], meta.granularity),
    ):
        if given not in asked:
            raise InconsistentAnswer(
                f"{symbol}: asked for {ticker} by {granularity}, answered {given!r:.{_SHOWN}}",
                symbol=symbol,
            )
    return Chart(
        *_read_rows(result, symbol),
        _read_zone(meta.zone, symbol),
        meta.periods.regular if meta.periods is not None else None,
        meta.last_trade,
        meta.kind.upper() in _VOLUME_IN_QUOTE,
    )


def _read_result(answer: Answer, symbol: str, ticker: str) -> Result | None:
    try:
        chart = Body.model_validate_json(answer.body).chart
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] == "json_invalid":
            raise ExchangeFault(
                f"{answer.url} answered no JSON (HTTP {answer.status})",
                symbol=symbol,
                status=answer.status,
            ) from None
        if _has_no_rows(answer, symbol, ticker):
            return None
        raise MalformedAnswer(f"{answer.url}: {describe(error)}", symbol=symbol) from error
    if chart.error is not None and _has_no_rows(answer, symbol, ticker):
        return None
    if not chart.result:
        raise MalformedAnswer(f"{answer.url} answered neither rows nor an error", symbol=symbol)
    if len(chart.result) > 1:
        raise MalformedAnswer(f"{answer.url} answered {len(chart.result)} charts", symbol=symbol)
    return chart.result[0]


def _has_no_rows(answer: Answer, symbol: str, ticker: str) -> bool:
    """Say whether an answer's error is that there are no rows; raise any other that it has."""
    failure = _read_failure(answer)
    if failure is None:
        return False
    code, why = failure.code, failure.description or "no description"
    if why.lower().startswith(_NO_ROWS):
        return True
    text = f"{answer.url} answered {code!r:.{_SHOWN}}: {why:.200}"
    if code == "Not Found":
        raise UnknownSymbol(
            f"symbol {symbol!r}: Yahoo has no ticker {ticker!r} ({text})",
            symbol=symbol,
            status=answer.status,
        )
    raise RequestRejected(text, symbol=symbol, status=answer.status)


def _read_failure(answer: Answer) -> Failure | None:
    try:
        body = FailureBody.model_validate_json(answer.body)
    except ValidationError:
        return None
    part = body.chart or body.finance
    return None if part is None else part.error


def _read_rows(
    result: Result, symbol: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return opens and values, sorted; equal rows of one time collapse."""
    opens, quote = np.array(result.timestamp, dtype=np.int64), result.indicators.quote[0]
    columns = [quote.open, quote.high, quote.low, quote.close, quote.volume]
    for name, column in zip(("open", "high", "low", "close", "volume"), columns, strict=True):
        if len(column) != len(opens):
            raise MalformedAnswer(
                f"{symbol}: {len(column)} values of {name} for {len(opens)} rows", symbol=symbol
            )
    values = np.array(columns, dtype=np.float64).T.reshape(len(opens), len(columns))
    order = np.argsort(opens, kind="stable")
    opens, values = opens[order], values[order]
    repeated = np.flatnonzero(np.diff(opens) == 0) + 1
    for row in repeated:
        if not np.array_equal(values[row], values[row - 1], equal_nan=True):
            raise InconsistentAnswer(f"{symbol}: two bars of {opens[row]} s differ", symbol=symbol)
    return np.delete(opens, repeated), np.delete(values, repeated, axis=0)


def _read_zone(name: str, symbol: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a name too long for a file
        raise MalformedAnswer(
            f"{symbol}: exchangeTimezoneName is {name!r:.{_SHOWN}}: expected a time zone",
            symbol=symbol,
        ) from None
