import pytest

from flash_pipeline.errors import AccessDenied, ExchangeFault, RateLimited, RequestRejected
from flash_pipeline.transport import Answer, check_status, require_json


def _answer(status: int = 200, body: bytes = b"{}", **headers: str) -> Answer:
    return Answer("https://first.test/x", status, headers, body)


def test_ok_passes():
    check_status(_answer())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, RateLimited),
        (500, ExchangeFault),
        (502, ExchangeFault),
        (504, ExchangeFault),
        (599, ExchangeFault),
        (403, AccessDenied),
        (400, RequestRejected),
        (401, RequestRejected),
        (404, RequestRejected),
        (204, RequestRejected),
        (101, RequestRejected),
    ],
)
def test_a_status_stands_for_one_error(status, kind):
    with pytest.raises(kind, match=f"first.test/x answered HTTP {status}") as caught:
        check_status(_answer(status), symbol="BTCUSDT")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.symbol) == (status, "BTCUSDT")


@pytest.mark.parametrize("status", [400, 401, 405, 408, 421])
def test_a_page_where_json_was_due_may_be_gone_on_another_try(status):
    page = _answer(status, b"<html>Bad Request</html>", **{"content-type": "text/html"})
    with pytest.raises(ExchangeFault, match=f"HTTP {status}"):
        check_status(page)


@pytest.mark.parametrize("status", [408, 421, 425])
def test_a_status_of_a_passing_trouble_passes_with_json_too(status):
    with pytest.raises(ExchangeFault, match=f"HTTP {status}"):
        check_status(_answer(status))


@pytest.mark.parametrize("status", [403, 404])
def test_no_page_makes_a_refusal_or_an_absent_route_transient(status):
    with pytest.raises((AccessDenied, RequestRejected)):
        check_status(_answer(status, b"<html>", **{"content-type": "text/html"}))


@pytest.mark.parametrize(
    ("sent", "media_type"),
    [
        ("application/json; charset=utf-8", "application/json"),
        ("Text/HTML", "text/html"),
        (" text/html ;", "text/html"),
        ("", ""),
    ],
)
def test_the_media_type_has_no_parameters(sent, media_type):
    assert _answer(**{"content-type": sent}).media_type == media_type


def test_an_answer_without_a_content_type_has_none():
    assert _answer().media_type == ""


@pytest.mark.parametrize("sent", ["application/json", "application/problem+json", ""])
def test_json_passes_and_so_does_what_is_not_named(sent):
    require_json(_answer(**{"content-type": sent}))


@pytest.mark.parametrize("sent", ["text/html", "text/plain", "application/octet-stream"])
def test_another_content_type_is_a_fault(sent):
    with pytest.raises(ExchangeFault, match=f"answered no JSON but {sent}") as caught:
        require_json(_answer(**{"content-type": sent}), symbol="BTCUSDT")
    assert caught.value.symbol == "BTCUSDT"
