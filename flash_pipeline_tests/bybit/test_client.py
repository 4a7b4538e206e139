import json
import socket
import time

import pytest
import requests

from flash_pipeline.bybit import MAX_CANDLES, BybitClient
from flash_pipeline.errors import (
    AccessDenied,
    AccessTooFrequent,
    CircuitOpen,
    CountryBlocked,
    ExchangeFault,
    ExchangeUnreachable,
    InconsistentAnswer,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import MARKET_HEADER, Interval, TimeRange, parse_instant
from flash_pipeline.transport import RequestBudget

HOUR = 3_600_000
NOON = parse_instant("2025-05-03T12:00Z")
RATE_LIMIT = {"retCode": 10006, "retMsg": "Too many visits", "result": {}}
SYSTEM_ERROR = {"retCode": 10016, "retMsg": "System error. Please try again later."}
BANNED = (403, {"Content-Type": "application/json"}, b'{"retMsg":"access too frequent"}')
BLOCKED = (403, {"Content-Type": "text/html"}, b"<HTML>block access from your country</HTML>")


@pytest.mark.parametrize(
    "failure",
    [
        RATE_LIMIT,
        SYSTEM_ERROR,
        requests.ConnectionError("reset"),
        requests.Timeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut off"),
        (429, {}, b""),
        (503, {}, b""),
        (200, {"Content-Type": "text/html"}, b"<html>"),
    ],
    ids=["rate limit", "system error", "connection", "timeout", "cut", "429", "503", "html"],
)
def test_a_transient_failure_is_tried_again(scripted, envelope, pauses, failure):
    client, script = scripted(failure, failure, envelope(time=7))
    assert client.server_time() == 7
    assert len(script.asked) == 3
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (RATE_LIMIT, RateLimited),
        (SYSTEM_ERROR, ExchangeFault),
        (requests.ConnectionError("refused"), ExchangeUnreachable),
    ],
)
def test_a_lasting_failure_is_raised_after_six_tries(scripted, pauses, failure, kind):
    client, script = scripted(failure)
    with pytest.raises(kind):
        client.server_time()
    assert len(script.asked) == 6
    assert len(pauses) == 5


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((403, {}, b""), AccessDenied),
        ((404, {}, b""), RequestRejected),
        ((400, {}, b"{}"), RequestRejected),
        ({"retCode": 10001, "retMsg": "no"}, RequestRejected),
        ((302, {"Location": "https://elsewhere.test/"}, b""), RequestRejected),
    ],
)
def test_a_terminal_answer_is_raised_at_once(scripted, pauses, answer, kind):
    client, script = scripted(answer)
    with pytest.raises(kind):
        client.server_time()
    assert (len(script.asked), pauses) == (1, [])


@pytest.mark.parametrize("body", [[], "OK", {"ret_code": 10006}])
def test_a_malformed_answer_is_asked_for_twice_more(scripted, body):
    client, script = scripted(body)
    with pytest.raises(MalformedAnswer):
        client.server_time()
    assert len(script.asked) == 3


def test_every_call_has_a_connect_and_a_read_timeout(scripted, envelope):
    client, script = scripted(envelope({"list": []}))
    client.server_time()
    client.candles("BTCUSDT", Interval.HOUR_1, TimeRange(NOON, NOON + HOUR))
    with pytest.raises(UnknownSymbol):
        client.instrument("BTCUSDT")
    timeouts = {call.options["timeout"] for call in script.asked}
    assert timeouts == {(5.0, 20.0)}


def test_tries_and_timeout_can_be_shortened(scripted):
    client, script = scripted(SYSTEM_ERROR, attempts=2, read_timeout_s=2.0)
    with pytest.raises(ExchangeFault):
        client.server_time()
    assert [call.options["timeout"] for call in script.asked] == [(2.0, 2.0)] * 2


def test_an_unreachable_host_is_named_quickly(pauses):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.monotonic()
    with (
        BybitClient(f"http://127.0.0.1:{port}", sleep=pauses.append) as client,
        pytest.raises(ExchangeUnreachable, match=f"127.0.0.1:{port} does not answer"),
    ):
        client.server_time()
    assert time.monotonic() - started < 5
    assert sum(pauses) < 25


def test_a_ban_opens_the_circuit_for_the_next_client_as_well(scripted, envelope, tmp_path):
    path = tmp_path / ".bybit-circuit.json"
    client, _ = scripted(BANNED, circuit_file=path)
    with pytest.raises(AccessTooFrequent, match="every call stops until"):
        client.server_time()
    late, script = scripted(envelope(time=7), circuit_file=path)
    with pytest.raises(CircuitOpen, match="no request is sent until"):
        late.server_time()
    assert script.asked == []
    assert json.loads(path.read_text())["until"] > 0


def test_a_country_block_is_its_own_error_and_opens_no_circuit(scripted, envelope):
    client, _ = scripted(BLOCKED, envelope(time=7))
    with pytest.raises(CountryBlocked, match="this country is blocked"):
        client.server_time()
    assert client.server_time() == 7


def test_the_next_host_is_asked_where_the_first_blocks_the_country(scripted, envelope):
    client, script = scripted(BLOCKED, envelope(time=7))
    hosts = ["https://exchange.test/blocked", "https://exchange.test/open"]
    with BybitClient(hosts, session=client._transport._session, budget=RequestBudget()) as both:
        assert both.server_time() == 7
    assert [call.path for call in script.asked] == [
        "/blocked/v5/market/time",
        "/open/v5/market/time",
    ]


@pytest.mark.parametrize(
    ("header", "synthetic"),
    [({MARKET_HEADER: "simulated"}, True), ({MARKET_HEADER: "replay"}, False), ({}, False)],
)
def test_the_header_says_whether_a_simulator_made_the_candles(
    scripted, envelope, header, synthetic
):
    client, script = scripted((200, header, json.dumps(envelope()).encode()))
    assert client.is_synthetic() is synthetic
    assert client.is_synthetic() is synthetic
    assert len(script.asked) == 1


def test_real_and_simulated_answers_never_mix(scripted, envelope):
    simulated = (200, {MARKET_HEADER: "simulated"}, json.dumps(envelope()).encode())
    client, _ = scripted(envelope(), simulated)
    client.server_time()
    with pytest.raises(InconsistentAnswer, match=r"the 'simulated' market, .* was 'live'"):
        client.server_time()


def test_what_the_client_is_as_a_source():
    with BybitClient("https://api.bybit.com") as client:
        assert (client.name, client.continuous, client.most_candles) == ("bybit", True, 1000)


@pytest.fixture(scope="module")
def embedded():
    market, clock = SimulatedMarket(seed=7), Clock(NOON + HOUR // 2, speed=0)
    with embedded_exchange(market=market, clock=clock) as url, BybitClient(f"{url}/") as client:
        yield client


def test_the_clock_is_the_exchanges_not_this_machines(embedded):
    assert embedded.server_time() == NOON + HOUR // 2


def test_candles_come_oldest_first_without_the_forming_one(embedded):
    window = TimeRange(NOON - 2 * HOUR, NOON + HOUR)
    answer = embedded.candles("BTCUSDT", Interval.HOUR_1, window)
    assert answer.candles["start_time"].to_pylist() == [NOON - 2 * HOUR, NOON - HOUR]
    assert answer.as_of == NOON + HOUR // 2


def test_a_full_window_comes_whole(embedded):
    window = TimeRange(NOON - MAX_CANDLES * HOUR, NOON)
    assert embedded.candles("BTCUSDT", Interval.HOUR_1, window).candles.num_rows == MAX_CANDLES


def test_an_unknown_symbol_is_named(embedded):
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT' is not listed") as caught:
        embedded.candles("NOPEUSDT", Interval.HOUR_1, TimeRange(NOON, NOON + HOUR))
    assert (caught.value.symbol, caught.value.code) == ("NOPEUSDT", 10001)
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT'"):
        embedded.instrument("NOPEUSDT")


def test_mark_klines_funding_and_tickers_are_read_from_the_embedded_exchange(embedded):
    window = TimeRange(parse_instant("2025-04-01"), NOON)
    marks = embedded.mark_klines("BTCUSDT", Interval.HOUR_1, window).candles
    assert marks["start_time"].to_pylist() == list(window.candle_starts(Interval.HOUR_1))
    funding = embedded.funding("BTCUSDT", window)["funding_time"].to_pylist()
    assert funding == list(range(window.start, NOON, 8 * HOUR))
    tickers = embedded.tickers(["ETHUSDT", "BTCUSDT"])
    assert tickers["symbol"].to_pylist() == ["ETHUSDT", "BTCUSDT"]
    assert embedded.delisted(["ETHUSDT", "BTCUSDT"]) == frozenset()
