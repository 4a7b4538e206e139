"""A message to a webhook over a real wire: taken or not, in time, its address told to nobody."""

import logging
import time
from contextlib import contextmanager

import pytest

from flash_pipeline.errors import AlertNotDelivered
from flash_pipeline.transport.webhook import post_json
from flash_pipeline.transport.wire import Timeouts

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = "T000-B000-secret"
SHORT = Timeouts(connect_s=0.5, read_s=0.5, total_s=0.5)


@contextmanager
def kept_errors():
    """Yield a list that gets an error of the block, and those it was made from."""
    kept = []
    try:
        yield kept
    except AlertNotDelivered as error:
        kept += [str(error), repr(error.__cause__), repr(error.__context__)]


def status(code, extra=""):
    return f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n{extra}\r\n".encode()


def post(server, **options):
    post_json(f"{server.url}/services/{SECRET}", {"text": "hallo"}, sleep=lambda _: None, **options)


def test_a_message_is_posted_as_json(serve):
    server = serve(OK)
    post(server)
    (request,) = server.requests
    head, _, _ = request.partition(b"\r\n\r\n")
    assert head.startswith(f"POST /services/{SECRET} HTTP/1.1".encode())
    assert b"Content-Type: application/json" in head
    assert b"Authorization" not in head


@pytest.mark.parametrize("first", [status(500), status(429), status(503), b""])
def test_a_server_that_is_busy_or_fails_is_asked_once_more(serve, first):
    server = serve(first, OK)
    post(server)
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [400, 403, 404, 410, 301])
def test_a_refusal_or_a_redirect_is_final(serve, code):
    server = serve(status(code, "Location: http://127.0.0.1:1/elsewhere\r\n"))
    with pytest.raises(AlertNotDelivered, match=f"127.0.0.1 did not take a message: HTTP {code}"):
        post(server)
    assert len(server.requests) == 1


def test_a_server_that_never_answers_is_left_in_time(serve):
    server = serve(lambda _: time.sleep(3))
    began = time.monotonic()
    with pytest.raises(AlertNotDelivered, match="ReadTimeout"):
        post(server, timeouts=SHORT)
    assert time.monotonic() - began < 2.5


def test_nobody_at_the_address_is_an_error_of_ours():
    with pytest.raises(AlertNotDelivered, match="did not take a message: ConnectionError"):
        post_json("http://127.0.0.1:9/x", {}, sleep=lambda _: None)


@pytest.mark.parametrize("answer", [OK, status(404), b"", b"garbage\r\n\r\n"])
def test_the_address_is_in_no_log_and_no_error(serve, caplog, answer):
    server = serve(answer)
    with caplog.at_level(logging.DEBUG), kept_errors() as told:
        post(server)
    assert SECRET not in "".join(told) + caplog.text
    assert not logging.getLogger("urllib3.connectionpool").disabled


def test_a_message_that_is_no_json_is_not_sent(serve):
    server = serve(OK)
    with pytest.raises(AlertNotDelivered):
        post_json(server.url, {"text": float("nan")}, sleep=lambda _: None)
    assert server.requests == []
