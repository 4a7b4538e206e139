"""Which host is asked, and when the next one is."""

import socket
import ssl

import pytest
import requests

from flash_pipeline.errors import (
    AccessTooFrequent,
    CountryBlocked,
    ExchangeUnreachable,
    MalformedAnswer,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.transport import HttpTransport, Timeouts
from flash_pipeline_tests.transport.conftest import Script

OK = (200, {}, b"ok")
DOWN = (503, {}, b"")
LIMITED = (429, {"Retry-After": "7"}, b"")
RESET = requests.ConnectionError("reset")
QUICK = Timeouts(connect_s=2, read_s=0.5, total_s=1)


def _raising(*errors):
    """Read answers by raising the errors one after the other, then by their body."""
    left = list(errors)

    def read(answer):
        if left:
            raise left.pop(0)
        return answer.body

    return read


def test_the_next_host_is_asked_after_some_failures_and_kept(scripted, read_ok):
    transport, script = scripted(RESET, second=(OK,))
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert len(script.asked) == 3
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert len(script.asked) == 3


def test_the_first_host_is_asked_again_when_the_second_fails(scripted, read_ok):
    transport, script = scripted(DOWN, DOWN, DOWN, OK, second=(RESET,))
    with pytest.raises(ExchangeUnreachable):
        transport.get("/x", {}, read_ok)
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert len(script.asked) == 4


def test_a_country_block_asks_the_next_host_at_once(scripted, clock):
    transport, script = scripted(OK, second=(OK,))
    blocked = _raising(CountryBlocked("not from here"))
    assert transport.get("/x", {}, blocked) == b"ok"
    assert clock.slept == []
    transport.get("/x", {}, lambda answer: answer.body)
    assert len(script.asked) == 1


def test_a_country_block_of_every_host_is_raised(scripted):
    transport, script = scripted(OK, second=(OK,))
    with pytest.raises(CountryBlocked, match="second"):
        transport.get("/x", {}, _raising(CountryBlocked("first"), CountryBlocked("second")))
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        (302, {"Location": "https://login.test/"}, b""),
        (403, {"Content-Type": "text/html"}, b"<html>firewall</html>"),
        (404, {}, b""),
        requests.exceptions.SSLError(ssl.SSLCertVerificationError("expired")),
    ],
)
def test_a_refusal_that_is_one_hosts_own_asks_the_next_at_once(scripted, read_ok, clock, refusal):
    transport, script = scripted(refusal, second=(OK,))
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert (len(script.asked), clock.slept) == (1, [])


def test_a_refusal_of_every_host_is_raised_after_one_request_each(scripted, read_ok):
    second = Script((404, {}, b""))
    transport, script = scripted((302, {"Location": "/x"}, b""), second=second)
    with pytest.raises(RequestRejected, match=r"second\.test/x answered HTTP 404"):
        transport.get("/x", {}, read_ok)
    assert (len(script.asked), len(second.asked)) == (1, 1)


def test_a_malformed_answer_has_its_next_try_at_the_next_host(scripted):
    transport, script = scripted(OK, second=(OK,))
    assert transport.get("/x", {}, _raising(MalformedAnswer("garbled"))) == b"ok"
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        RequestRejected("bad parameter", code=10001),
        RequestRejected("bad parameter", status=400),
        AccessTooFrequent("banned", status=403),
        UnknownSymbol("none such"),
    ],
)
def test_a_refusal_that_every_host_would_repeat_is_asked_of_none_other(scripted, error):
    second = Script(OK)
    transport, _ = scripted(OK, second=second)
    with pytest.raises(type(error)):
        transport.get("/x", {}, _raising(error))
    assert second.asked == []


def test_a_rate_limit_does_not_change_the_host(scripted, read_ok):
    transport, script = scripted(LIMITED, LIMITED, LIMITED, LIMITED, OK, second=(DOWN,))
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert len(script.asked) == 5


def test_two_hosts_over_the_wire_the_one_that_answers_serves(serve, http, read_ok, clock):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    second = serve(http(b"from the second"))
    with HttpTransport([closed, second.url], sleep=clock.sleep, timeouts=QUICK) as transport:
        assert transport.get("/x", {}, read_ok) == b"from the second"
    assert len(clock.slept) == 3
