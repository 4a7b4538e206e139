import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from flash_pipeline.errors import (
    AccessTooFrequent,
    CircuitOpen,
    ExchangeFault,
    ExchangeUnreachable,
    InconsistentAnswer,
    InvalidConfig,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.market import MARKET_HEADER
from flash_pipeline.transport import Circuit, HttpTransport, RequestBudget, Timeouts

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


def test_what_is_read_of_the_answer_is_returned(scripted):
    transport, script = scripted(OK)
    value = transport.get("/v5/x", {"a": 1, "b": "c d"}, lambda answer: len(answer.body))
    assert value == 2
    assert script.asked == ["https://first.test/v5/x?a=1&b=c+d"]


@pytest.mark.parametrize(
    "failure", [RESET, requests.Timeout("slow"), DOWN, (502, {}, b"<html>"), (429, {}, b"")]
)
def test_a_transient_failure_is_tried_again(scripted, read_ok, clock, failure):
    transport, script = scripted(failure, failure, OK)
    assert transport.get("/x", {}, read_ok) == b"ok"
    assert len(script.asked) == 3
    assert len(clock.slept) == 2


@pytest.mark.parametrize(
    "error", [ExchangeFault("a"), RateLimited("b"), InconsistentAnswer("c"), MalformedAnswer("d")]
)
def test_what_the_reader_finds_wrong_is_tried_again(scripted, error):
    transport, script = scripted(OK)
    assert transport.get("/x", {}, _raising(error)) == b"ok"
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(RESET, ExchangeUnreachable), (DOWN, ExchangeFault), (LIMITED, RateLimited)],
)
def test_a_lasting_failure_is_raised_after_six_tries(scripted, read_ok, answer, kind):
    transport, script = scripted(answer)
    with pytest.raises(kind):
        transport.get("/x", {}, read_ok)
    assert len(script.asked) == 6


def test_tries_can_be_limited_to_one(scripted, read_ok, clock):
    transport, script = scripted(DOWN, attempts=1)
    with pytest.raises(ExchangeFault):
        transport.get("/x", {}, read_ok)
    assert (len(script.asked), clock.slept) == (1, [])


def test_pauses_grow_with_jitter_and_stay_bounded(scripted, read_ok, clock):
    transport, _ = scripted(DOWN, attempts=9)
    with pytest.raises(ExchangeFault):
        transport.get("/x", {}, read_ok)
    bounds = [min(0.5 * 2**n, 15.0) for n in range(8)]
    assert all(low <= s <= low + 1 for low, s in zip(bounds, clock.slept, strict=True))
    assert len({pause % 0.5 for pause in clock.slept}) > 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_terminal_status_is_raised_at_once(scripted, read_ok, clock, status):
    transport, script = scripted((status, {}, b"{}"))
    with pytest.raises(Exception, match=f"HTTP {status}"):
        transport.get("/x", {}, read_ok)
    assert (len(script.asked), clock.slept) == (1, [])


def test_a_terminal_error_of_the_reader_is_raised_at_once(scripted):
    transport, script = scripted(OK)
    with pytest.raises(UnknownSymbol):
        transport.get("/x", {}, _raising(UnknownSymbol("none such")))
    assert len(script.asked) == 1


def test_a_malformed_answer_is_asked_for_twice_more_and_then_terminal(scripted):
    transport, script = scripted(OK)
    with pytest.raises(MalformedAnswer, match="third"):
        transport.get("/x", {}, _raising(*map(MalformedAnswer, ("first", "second", "third"))))
    assert len(script.asked) == 3


def test_a_garbled_body_is_forgiven_among_other_failures(scripted):
    transport, script = scripted(OK)
    errors = ExchangeFault("a"), MalformedAnswer("b"), InconsistentAnswer("c")
    assert transport.get("/x", {}, _raising(*errors)) == b"ok"
    assert len(script.asked) == 4


def test_a_redirect_is_terminal(scripted, read_ok):
    transport, script = scripted((302, {"Location": "https://elsewhere.test/"}, b""))
    with pytest.raises(RequestRejected, match=r"a redirect to 'https://elsewhere\.test/'"):
        transport.get("/x", {}, read_ok)
    assert len(script.asked) == 1


def test_a_reset_and_a_truncated_body_over_the_wire_are_tried_again(serve, http, read_ok, clock):
    server = serve(b"", http(b"cut", length=99), http(b"whole"))
    with HttpTransport([server.url], sleep=clock.sleep, timeouts=QUICK) as transport:
        assert transport.get("/x", {}, read_ok) == b"whole"
    assert len(server.requests) == 3


def test_retry_after_is_obeyed_by_the_next_request(scripted, read_ok, clock):
    transport, _ = scripted(LIMITED, OK)
    started = clock.now
    transport.get("/x", {}, read_ok)
    assert clock.now - started >= 7


def test_an_exhausted_limit_holds_every_thread_back_until_its_reset(scripted, read_ok, clock):
    reset = str(int((clock.now + 4) * 1000))
    headers = {"X-Bapi-Limit-Status": "0", "X-Bapi-Limit-Reset-Timestamp": reset}
    transport, _ = scripted((200, headers, b"last"), OK)
    started = clock.now
    assert transport.get("/x", {}, read_ok) == b"last"
    assert clock.now == started
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: transport.get("/x", {}, read_ok), range(8)))
    assert clock.now - started >= 4


def test_a_rate_limit_without_any_header_is_waited_out_by_the_growing_pauses(scripted, clock):
    transport, script = scripted(OK)
    errors = [RateLimited("10006") for _ in range(4)]
    transport.get("/x", {}, _raising(*errors))
    assert len(script.asked) == 5
    assert sum(clock.slept) >= 5


def test_requests_wait_for_their_budget_tries_again_included(scripted, read_ok, clock):
    budget = RequestBudget(2, 5.0, monotonic=clock, sleep=clock.sleep)
    transport, script = scripted(DOWN, DOWN, OK, budget=budget)
    started = clock.now
    transport.get("/x", {}, read_ok)
    transport.get("/x", {}, read_ok)
    assert len(script.asked) == 4
    assert clock.now - started >= 5


def test_the_embedded_exchange_has_neither_budget_nor_circuit(serve, http, read_ok, clock):
    budget = RequestBudget(1, 5.0, monotonic=clock, sleep=clock.sleep)
    circuit = Circuit(clock=clock)
    server = serve(http(b"ok", f"{MARKET_HEADER}: simulated"))
    with HttpTransport(
        [server.url], sleep=clock.sleep, budget=budget, circuit=circuit
    ) as transport:
        transport.get("/x", {}, read_ok)
        circuit.open("banned elsewhere")
        for _ in range(3):
            transport.get("/x", {}, read_ok)
        with pytest.raises(AccessTooFrequent) as caught:
            transport.get("/x", {}, _raising(AccessTooFrequent("banned by a fault")))
        transport.get("/x", {}, read_ok)
    assert caught.value.until is None
    assert clock.slept == []


def test_a_tunnel_on_this_machine_has_budget_and_circuit(serve, http, read_ok, clock):
    budget = RequestBudget(1, 5.0, monotonic=clock, sleep=clock.sleep)
    server = serve(http(b"ok"))
    with HttpTransport(
        [server.url], sleep=clock.sleep, monotonic=clock, clock=clock, budget=budget
    ) as transport:
        transport.get("/x", {}, read_ok)
        transport.get("/x", {}, read_ok)
        assert sum(clock.slept) >= 5
        with pytest.raises(AccessTooFrequent) as caught:
            transport.get("/x", {}, _raising(AccessTooFrequent("banned")))
        with pytest.raises(CircuitOpen):
            transport.get("/x", {}, read_ok)
    assert caught.value.until is not None
    assert len(server.requests) == 3


def test_a_label_of_the_embedded_exchange_from_elsewhere_exempts_from_nothing(
    scripted, read_ok, clock
):
    budget = RequestBudget(1, 5.0, monotonic=clock, sleep=clock.sleep)
    transport, _ = scripted((200, {MARKET_HEADER: "simulated"}, b"ok"), budget=budget)
    transport.get("/x", {}, read_ok)
    transport.get("/x", {}, read_ok)
    assert sum(clock.slept) >= 5


def test_a_ban_opens_the_circuit_for_ten_minutes_and_says_so(scripted, read_ok, clock):
    transport, script = scripted(OK)
    banned = AccessTooFrequent("access too frequent", symbol="BTCUSDT", status=403)
    with pytest.raises(
        AccessTooFrequent, match="every call stops until 1970-01-01T00:26Z"
    ) as caught:
        transport.get("/x", {}, _raising(banned), symbol="BTCUSDT")
    assert caught.value.until == (clock.now + 600) * 1000
    assert (caught.value.symbol, caught.value.status) == ("BTCUSDT", 403)
    with pytest.raises(CircuitOpen, match="banned for its request rate"):
        transport.get("/x", {}, read_ok)
    assert len(script.asked) == 1
    clock.sleep(600)
    assert transport.get("/x", {}, read_ok) == b"ok"


def test_the_circuit_of_one_transport_holds_for_the_next(scripted, read_ok, clock, tmp_path):
    path = tmp_path / "circuit.json"
    first, _ = scripted(OK, circuit=Circuit(path, clock=clock))
    with pytest.raises(AccessTooFrequent):
        first.get("/x", {}, _raising(AccessTooFrequent("banned")))
    second, script = scripted(OK, circuit=Circuit(path, clock=clock))
    with pytest.raises(CircuitOpen):
        second.get("/x", {}, read_ok)
    assert script.asked == []


def test_an_open_circuit_stops_the_calls_of_other_threads_that_wait(scripted, read_ok, clock):
    waiting, opened = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        waiting.set()
        assert opened.wait(10)

    budget = RequestBudget(1, 5.0, monotonic=clock, sleep=sleep)
    transport, script = scripted(OK, budget=budget)

    def read_banned(answer):
        assert waiting.wait(10)
        raise AccessTooFrequent("banned")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(transport.get, "/x", {}, read_banned)
        while not script.asked:
            pass
        second = pool.submit(transport.get, "/x", {}, read_ok)
        with pytest.raises(AccessTooFrequent):
            first.result(10)
        opened.set()
        with pytest.raises(CircuitOpen):
            second.result(10)
    assert len(script.asked) == 1


def test_an_open_circuit_stops_a_call_between_two_tries(scripted, read_ok, clock):
    circuit = Circuit(clock=clock)
    transport, script = scripted(DOWN, circuit=circuit)

    def read(answer):
        circuit.open("banned in another thread")
        read_ok(answer)

    with pytest.raises(CircuitOpen):
        transport.get("/x", {}, read)
    assert len(script.asked) == 1


def test_32_threads_share_one_transport(serve, http, read_ok):
    server = serve(http(b"ok"))
    with HttpTransport([server.url], timeouts=QUICK) as transport, ThreadPoolExecutor(32) as pool:
        bodies = list(pool.map(lambda _: transport.get("/x", {}, read_ok), range(96)))
    assert bodies == [b"ok"] * 96


def test_a_proxy_of_the_environment_does_not_hide_this_machine(serve, http, read_ok, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with HttpTransport([serve(http(b"ok")).url], attempts=1) as transport:
        assert transport.get("/x", {}, read_ok) == b"ok"


def test_a_proxy_of_the_environment_leads_to_other_hosts(serve, http, read_ok, monkeypatch):
    proxy = serve(http(b"by proxy"))
    monkeypatch.setenv("http_proxy", proxy.url)
    with HttpTransport(["http://exchange.test"], attempts=1) as transport:
        assert transport.get("/x", {}, read_ok) == b"by proxy"
    assert proxy.requests[0].startswith(b"GET http://exchange.test/x HTTP/1.1")


@pytest.mark.parametrize("url", ["https://me:secret@first.test", "https://first.test?token=secret"])
def test_a_host_with_a_password_is_refused_without_telling_it(url):
    with pytest.raises(InvalidConfig, match=r"https://.*\*\*\*") as caught:
        HttpTransport([url])
    assert "secret" not in str(caught.value)


def test_no_password_of_a_netrc_is_sent(serve, http, read_ok, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine exchange.test login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    proxy = serve(http(b"by proxy"))
    monkeypatch.setenv("http_proxy", proxy.url)
    with HttpTransport(["http://exchange.test"], attempts=1) as transport:
        assert transport.get("/x", {}, read_ok) == b"by proxy"
    assert b"authorization" not in proxy.requests[0].lower()
