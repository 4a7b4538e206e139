import socket
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from flash_pipeline.bybit import MAX_CANDLES, BybitClient
from flash_pipeline.errors import (
    AccessDenied,
    ExchangeFault,
    ExchangeUnreachable,
    InvalidSymbol,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.exchange import MARKET_HEADER, Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import Interval, TimeRange, parse_instant

HOUR = 3_600_000
NOON = parse_instant("2025-05-03T12:00Z")
WINDOW = TimeRange(NOON, NOON + 3 * HOUR)
RATE_LIMIT = {"retCode": 10006, "retMsg": "Too many visits", "result": {}}
SYSTEM_ERROR = {"retCode": 10016, "retMsg": "System error. Please try again later."}


def _rows(*starts: int) -> list[list[str]]:
    return [[str(start), "1", "2", "0.5", "1.5", "10", "15"] for start in starts]


def _answers_of(client, window=WINDOW):
    return client.klines("BTCUSDT", Interval.HOUR_1, window)


@pytest.mark.parametrize(
    "failure",
    [
        RATE_LIMIT,
        SYSTEM_ERROR,
        requests.ConnectionError("reset"),
        requests.Timeout("slow"),
        requests.exceptions.ChunkedEncodingError("cut off"),
    ],
    ids=["rate limit", "system error", "connection", "timeout", "cut off"],
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
def test_a_lasting_failure_is_raised_after_five_tries(scripted, pauses, failure, kind):
    client, script = scripted(failure)
    with pytest.raises(kind):
        client.server_time()
    assert len(script.asked) == 5
    assert len(pauses) == 4


def test_pauses_grow_and_stay_bounded(scripted, pauses):
    client, _ = scripted(SYSTEM_ERROR)
    with pytest.raises(ExchangeFault):
        client.server_time()
    assert all(0.5 * 2**n <= pause <= 0.5 * 2**n + 1 for n, pause in enumerate(pauses))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_transient_status_is_tried_again(scripted, answer, envelope, status):
    client, script = scripted(lambda: answer(status=status), envelope(time=7))
    assert client.server_time() == 7
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("status", "kind"), [(403, AccessDenied), (404, RequestRejected), (400, RequestRejected)]
)
def test_a_terminal_status_is_raised_at_once(scripted, answer, pauses, status, kind):
    client, script = scripted(lambda: answer({"retCode": 0}, status=status))
    with pytest.raises(kind):
        client.server_time()
    assert len(script.asked) == 1
    assert pauses == []


@pytest.mark.parametrize("body", [{"retCode": 10001, "retMsg": "no"}, [], {"ret_code": 10006}])
def test_a_terminal_answer_is_raised_at_once(scripted, body):
    client, script = scripted(body)
    with pytest.raises((RequestRejected, MalformedAnswer)):
        client.server_time()
    assert len(script.asked) == 1


def test_a_bad_certificate_is_raised_at_once(scripted):
    client, script = scripted(requests.exceptions.SSLError("self-signed"))
    with pytest.raises(RequestRejected, match="TLS certificate is not valid: self-signed"):
        client.server_time()
    assert len(script.asked) == 1


def test_every_call_has_a_connect_and_a_read_timeout(scripted, envelope):
    client, script = scripted(envelope({"list": []}))
    client.server_time()
    _answers_of(client)
    with pytest.raises(UnknownSymbol):
        client.instrument("BTCUSDT")
    assert [asked["timeout"] for asked in script.asked] == [(5.0, 20.0)] * 3


def test_tries_and_timeout_can_be_shortened():
    waits = []
    with (
        BybitClient("http://127.0.0.1:9", sleep=waits.append, attempts=2) as client,
        pytest.raises(ExchangeUnreachable),
    ):
        client.server_time()
    assert len(waits) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused(scripted, answer, status):
    client, script = scripted(lambda: answer(status=status, Location="https://elsewhere.test/"))
    with pytest.raises(RequestRejected, match=f"HTTP {status}"):
        client.server_time()
    assert len(script.asked) == 1


def test_an_unreachable_host_is_named_quickly(pauses):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.monotonic()
    with (
        BybitClient(f"http://127.0.0.1:{port}", sleep=pauses.append) as client,
        pytest.raises(ExchangeUnreachable, match=f"127.0.0.1:{port} does not answer"),
    ):
        client.server_time()
    assert time.monotonic() - started < 2
    assert sum(pauses) < 12


def test_a_silent_host_is_given_up_on():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        BybitClient(
            f"http://127.0.0.1:{server.getsockname()[1]}", attempts=1, read_timeout_s=0.2
        ) as client,
        pytest.raises(ExchangeUnreachable, match="ReadTimeout"),
    ):
        client.server_time()


def test_a_proxy_of_the_environment_does_not_hide_the_embedded_exchange(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with (
        embedded_exchange(clock=Clock(NOON, speed=0)) as url,
        BybitClient(url, attempts=1) as client,
    ):
        assert client.server_time() == NOON


@pytest.mark.parametrize(
    ("header", "synthetic"),
    [({MARKET_HEADER: "simulated"}, True), ({MARKET_HEADER: "replay"}, False), ({}, False)],
)
def test_the_header_says_whether_a_simulator_made_the_candles(
    scripted, answer, envelope, header, synthetic
):
    client, _ = scripted(lambda: answer(envelope(), **header))
    assert client.is_synthetic() is synthetic


def test_the_header_is_asked_for_once(scripted, envelope):
    client, script = scripted(envelope())
    client.is_synthetic()
    client.is_synthetic()
    assert len(script.asked) == 1


@pytest.mark.parametrize("moment", [None, "1746288000500", 1.5, True])
def test_a_time_that_is_no_integer_is_malformed(scripted, envelope, moment):
    client, _ = scripted(envelope(time=moment))
    with pytest.raises(MalformedAnswer, match="time is "):
        client.server_time()


def test_a_window_is_asked_for_with_both_ends_inclusive(scripted, envelope):
    client, script = scripted(envelope({"list": []}))
    _answers_of(client)
    url = urlsplit(script.asked[0]["url"])
    assert url.path == "/v5/market/kline"
    assert parse_qs(url.query) == {
        "category": ["linear"],
        "symbol": ["BTCUSDT"],
        "interval": ["60"],
        "start": [str(NOON)],
        "end": [str(NOON + 2 * HOUR)],
        "limit": ["3"],
    }


def test_an_unaligned_window_is_rounded_to_the_candles_that_open_in_it(scripted, envelope):
    client, script = scripted(envelope({"list": _rows(NOON + HOUR)}))
    assert _answers_of(client, TimeRange(NOON + 1, NOON + HOUR + 1)).num_rows == 1
    assert f"start={NOON + HOUR}&end={NOON + HOUR}&" in script.asked[0]["url"]


@pytest.mark.parametrize("candles", [0, MAX_CANDLES + 1])
def test_a_window_that_no_answer_can_fill_is_refused_unasked(scripted, envelope, candles):
    client, script = scripted(envelope())
    with pytest.raises(ValueError, match=f"{candles} candles asked at once: expected 1 to 1000"):
        _answers_of(client, TimeRange(NOON, NOON + candles * HOUR))
    assert script.asked == []


@pytest.mark.parametrize("start", [NOON - HOUR, NOON + 3 * HOUR, NOON + 1])
def test_a_candle_that_was_not_asked_for_is_malformed(scripted, envelope, start):
    client, _ = scripted(envelope({"list": _rows(NOON, start)}))
    with pytest.raises(MalformedAnswer, match=f"BTCUSDT: candle {start} is off the 60-minute grid"):
        _answers_of(client)


def test_an_answer_without_rows_is_no_candles(scripted, envelope):
    client, _ = scripted(envelope({"category": "linear"}))
    assert _answers_of(client).num_rows == 0


@pytest.mark.parametrize("symbol", ["btcusdt", "../../etc", "BTC&limit=1"])
def test_a_malformed_symbol_never_reaches_a_url(scripted, envelope, symbol):
    client, script = scripted(envelope())
    for ask in (
        lambda: client.klines(symbol, Interval.HOUR_1, WINDOW),
        lambda: client.instrument(symbol),
    ):
        with pytest.raises(InvalidSymbol):
            ask()
    assert script.asked == []


def test_an_instrument_is_found_by_its_very_name(scripted, envelope):
    others = [{"symbol": "BTCUSDT-27JUN25"}, "noise", {"symbol": "BTCUSDT", "launchTime": "7"}]
    client, _ = scripted(envelope({"list": others}))
    assert client.instrument("BTCUSDT") is not None
    assert client.launch_time("BTCUSDT") == 7


@pytest.mark.parametrize("rows", [[], [{"symbol": "ETHUSDT"}], [{}]])
def test_an_instrument_that_is_not_in_the_answer_is_unknown(scripted, envelope, rows):
    client, _ = scripted(envelope({"list": rows}))
    with pytest.raises(UnknownSymbol, match="'BTCUSDT' is not listed"):
        client.instrument("BTCUSDT")


@pytest.fixture(scope="module")
def embedded():
    market, clock = SimulatedMarket(seed=7), Clock(NOON + HOUR // 2, speed=0)
    with embedded_exchange(market=market, clock=clock) as url, BybitClient(f"{url}/") as client:
        yield client


def test_the_clock_is_the_exchanges_not_this_machines(embedded):
    assert embedded.server_time() == NOON + HOUR // 2


def test_candles_come_oldest_first_with_the_forming_one(embedded):
    starts = _answers_of(embedded, TimeRange(NOON - 2 * HOUR, NOON + HOUR))["start_time"]
    assert starts.to_pylist() == [NOON - 2 * HOUR, NOON - HOUR, NOON]


def test_a_full_window_comes_whole(embedded):
    window = TimeRange(NOON - MAX_CANDLES * HOUR, NOON)
    assert _answers_of(embedded, window).num_rows == MAX_CANDLES


def test_an_unknown_symbol_is_named(embedded):
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT' is not listed") as caught:
        embedded.klines("NOPEUSDT", Interval.HOUR_1, WINDOW)
    assert (caught.value.symbol, caught.value.code) == ("NOPEUSDT", 10001)
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT'"):
        embedded.instrument("NOPEUSDT")
