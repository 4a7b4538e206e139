from typing import Any

import pytest

from flash_pipeline.bybit.answers import Envelope, read_envelope
from flash_pipeline.errors import (
    AccessDenied,
    AccessTooFrequent,
    CountryBlocked,
    ExchangeError,
    ExchangeFault,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    TransientExchangeError,
    UnknownSymbol,
)

JSON = {"Content_Type": "application/json; charset=utf-8"}
HTML = {"Content_Type": "text/html"}

# Recorded answers: clients' issue threads and the exchange's documentation.
RATE_LIMIT_SHORT = {
    "retCode": 10006,
    "retMsg": "Too many visits",
    "result": {},
    "retExtInfo": {},
    "time": 1693924869139,
}
RATE_LIMIT_FULL = {
    "retCode": 10006,
    "retMsg": "Too many visits. Exceeded the API Rate Limit.",
    "result": {},
    "retExtInfo": {},
    "time": 1769288403041,
}
SERVER_TIMEOUT = {
    "retCode": 10000,
    "retMsg": "Server Timeout",
    "result": {},
    "retExtInfo": {},
    "time": 1721301612083,
}
SYSTEM_ERROR = {"retCode": 10016, "retMsg": "System error. Please try again later."}
BLANK_RESULT = {
    "retCode": 10001,
    "retMsg": "symbol params err",
    "result": {"symbol": "", "bid": "", "ask": "", "lastPrice": ""},
}
LEGACY_V2 = {
    "ret_code": 10001,
    "ret_msg": "Param validation for 'symbol' failed on the 'symbol' tag",
    "ext_code": "",
    "ext_info": "",
    "result": None,
    "time_now": "1617831187.859557",
}
COUNTRY_BLOCK = b"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">
<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY>
<H1>403 ERROR</H1>
The Amazon CloudFront distribution is configured to block access from your country.
We can't connect to the server for this app or website at this time. There might be too much
traffic or a configuration error. Try again later, or contact the app or website owner.
</BODY></HTML>"""


ANYTHING = Envelope[dict[str, Any]]


def _error_of(answer, symbol=None) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        read_envelope(answer, ANYTHING, symbol=symbol)
    return caught.value


@pytest.mark.parametrize("message", ["OK", "success", "SUCCESS", "", None])
def test_the_code_alone_says_whether_a_call_succeeded(answer, envelope, message):
    body = envelope({"list": []}, retMsg=message)
    read = read_envelope(answer(body, **JSON), ANYTHING)
    assert (read.code, read.result, read.time) == (0, {"list": []}, body["time"])


def test_an_answer_without_a_message_succeeds(answer):
    read = read_envelope(answer({"retCode": 0, "result": {}, "time": 7}), ANYTHING)
    assert read.time == 7


@pytest.mark.parametrize("time", [None, "1746288000500", 1.5, True, -1, 10**14])
def test_the_envelopes_time_is_required_and_checked(answer, envelope, time):
    error = _error_of(answer(envelope(time=time), **JSON), "BTCUSDT")
    assert type(error) is MalformedAnswer
    assert f"time is {time!r}" in str(error)


@pytest.mark.parametrize("absent", ["time", "result", "retCode"])
def test_an_envelope_that_lacks_a_part_is_malformed_and_the_part_named(answer, envelope, absent):
    body = {name: value for name, value in envelope().items() if name != absent}
    error = _error_of(answer(body, **JSON), "BTCUSDT")
    assert type(error) is MalformedAnswer
    assert absent in str(error)


@pytest.mark.parametrize("body", [RATE_LIMIT_SHORT, RATE_LIMIT_FULL])
def test_a_rate_limit_arrives_over_http_200_without_any_header(answer, body):
    error = _error_of(answer(body, **JSON), "BTCUSDT")
    assert type(error) is RateLimited
    assert (error.symbol, error.code) == ("BTCUSDT", 10006)
    assert "Too many visits" in str(error)


@pytest.mark.parametrize("body", [SERVER_TIMEOUT, SYSTEM_ERROR])
def test_a_fault_of_the_exchange_is_worth_another_try(answer, body):
    error = _error_of(answer(body, **JSON))
    assert type(error) is ExchangeFault
    assert error.code == body["retCode"]
    assert body["retMsg"] in str(error)


def test_a_failing_answer_with_a_result_is_still_a_failure(answer):
    error = _error_of(answer(BLANK_RESULT, **JSON), "NOPEUSDT")
    assert type(error) is UnknownSymbol
    assert (error.symbol, error.code) == ("NOPEUSDT", 10001)
    assert "'NOPEUSDT'" in str(error)


def test_a_symbol_code_is_an_unknown_symbol(answer):
    error = _error_of(answer({"retCode": 10029, "retMsg": "not whitelisted"}), "NOPEUSDT")
    assert type(error) is UnknownSymbol


def test_a_bad_parameter_that_is_not_the_symbol_is_a_rejection(answer):
    body = {"retCode": 10001, "retMsg": "Invalid period!", "result": {}}
    error = _error_of(answer(body), "BTCUSDT")
    assert type(error) is RequestRejected
    assert "Invalid period!" in str(error)


def test_without_a_symbol_in_the_call_none_is_unknown(answer):
    assert type(_error_of(answer(BLANK_RESULT))) is RequestRejected


def test_the_code_of_a_region_is_a_country_block(answer):
    error = _error_of(answer({"retCode": 10009, "retMsg": "banned"}))
    assert type(error) is CountryBlocked


@pytest.mark.parametrize("code", [10017, 10032, 33004, -1])
def test_any_other_code_is_terminal(answer, code):
    error = _error_of(answer({"retCode": code}))
    assert type(error) is RequestRejected
    assert error.code == code
    assert "no message" in str(error)


def test_the_legacy_envelope_is_malformed(answer):
    assert type(_error_of(answer(LEGACY_V2, **JSON), "BTCUSDT")) is MalformedAnswer


@pytest.mark.parametrize(
    "body",
    [None, [], "OK", 0, {}, *({"retCode": code} for code in (None, "0", 0.0, False, True))],
)
def test_json_without_an_integer_code_is_malformed(answer, body):
    error = _error_of(answer(body, **JSON), "BTCUSDT")
    assert type(error) is MalformedAnswer
    assert error.symbol == "BTCUSDT"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>moved</html>",
        b'{"retCode": 0',
        b"\xff\xfe",
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b"1" * 5000, id="too many digits"),
    ],
)
@pytest.mark.parametrize("headers", [JSON, HTML, {}], ids=["json", "html", "unnamed"])
def test_a_body_that_is_no_json_is_a_fault_whatever_its_content_type(answer, headers, content):
    error = _error_of(answer(content=content, **headers))
    assert type(error) is ExchangeFault
    assert error.status == 200


def test_a_page_is_a_fault_even_where_its_body_is_json(answer, envelope):
    error = _error_of(answer(envelope(), **HTML))
    assert type(error) is ExchangeFault
    assert "text/html" in str(error)


def test_a_country_block_is_told_apart_from_a_ban(answer):
    error = _error_of(answer(content=COUNTRY_BLOCK, status=403, **HTML), "BTCUSDT")
    assert type(error) is CountryBlocked
    assert (error.status, error.symbol) == (403, "BTCUSDT")
    assert "country is blocked" in str(error)


@pytest.mark.parametrize("headers", [JSON, HTML, {}], ids=["json", "html", "unnamed"])
@pytest.mark.parametrize(
    "content",
    [
        b"access too frequent",
        b"<html><body>Access too frequent, please try again later.</body></html>",
        b'{"retCode":10006,"retMsg":"Access Too Frequent"}',
    ],
)
def test_a_ban_for_the_request_rate_is_told_in_json_and_in_html(answer, headers, content):
    error = _error_of(answer(content=content, status=403, **headers), "BTCUSDT")
    assert type(error) is AccessTooFrequent
    assert (error.status, error.symbol, error.until) == (403, "BTCUSDT", None)


def test_a_403_is_never_retried_even_with_a_transient_code(answer):
    error = _error_of(answer(RATE_LIMIT_FULL, status=403, **JSON))
    assert type(error) is AccessTooFrequent
    assert not isinstance(error, TransientExchangeError)


@pytest.mark.parametrize("content", [b"", b"<html>Forbidden</html>", b"{}"])
def test_a_403_that_says_nothing_is_neither_a_ban_nor_a_country_block(answer, content):
    error = _error_of(answer(content=content, status=403))
    assert type(error) is AccessDenied
    assert "as far as it says" in str(error)


@pytest.mark.parametrize("status", [400, 401, 408, 421])
def test_a_page_is_gone_on_another_try_whatever_its_status(answer, status):
    page = answer(content=b"<html></html>", status=status, content_type="text/html")
    assert type(_error_of(page)) is ExchangeFault


def test_a_400_of_the_exchange_itself_is_terminal(answer):
    refused = answer({"retCode": 10001, "retMsg": "params error"}, status=400)
    assert type(_error_of(refused)) is RequestRejected


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, RateLimited),
        (500, ExchangeFault),
        (502, ExchangeFault),
        (503, ExchangeFault),
        (504, ExchangeFault),
        (404, RequestRejected),
        (301, RequestRejected),
        (302, RequestRejected),
        (204, RequestRejected),
    ],
)
@pytest.mark.parametrize("content", [b"", b"<html></html>", b'{"retCode": 0}'])
def test_the_status_is_looked_at_before_the_body(answer, status, kind, content):
    error = _error_of(answer(content=content, status=status), "BTCUSDT")
    assert type(error) is kind
    assert (error.status, error.symbol) == (status, "BTCUSDT")
    assert f"HTTP {status}" in str(error)
