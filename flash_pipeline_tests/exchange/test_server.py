import socket
import threading
import time
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import requests

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange import Clock, SimulatedMarket, build_app, embedded_exchange
from flash_pipeline.market import parse_instant


def test_answers_at_once_on_loopback():
    started = time.perf_counter()
    with embedded_exchange() as url, urlopen(f"{url}/v5/market/time") as answer:
        assert answer.status == 200
        assert url.startswith("http://127.0.0.1:")
    assert time.perf_counter() - started < 1.0


def test_leaves_no_thread_and_no_open_port_behind():
    threads = set(threading.enumerate())
    with embedded_exchange() as url, requests.Session() as session:
        session.get(f"{url}/v5/market/time", timeout=10)  # a connection that is kept alive
    assert set(threading.enumerate()) == threads
    port = urlsplit(url).port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_stops_when_the_block_raises():
    threads = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="inside"), embedded_exchange():
        raise RuntimeError("inside")
    assert set(threading.enumerate()) == threads


def test_stops_before_it_was_ever_asked():
    with embedded_exchange():
        pass


def test_two_exchanges_serve_the_same_past():
    clock = Clock(parse_instant("2026-01-01"), speed=0)
    path = "/v5/market/kline?symbol=ETHUSDT&interval=60&limit=50"
    with embedded_exchange(clock=clock) as one, embedded_exchange(clock=clock) as other:
        assert one != other
        first, second = (requests.get(url + path, timeout=10).json() for url in (one, other))
    assert first == second
    assert len(first["result"]["list"]) == 50


def test_answers_are_not_held_back_by_small_packets():
    path = "/v5/market/time"
    with embedded_exchange() as url, requests.Session() as session:
        session.get(url + path, timeout=10)
        waits = []
        for _ in range(10):
            started = time.perf_counter()
            session.get(url + path, timeout=10)
            waits.append(time.perf_counter() - started)
    assert min(waits) < 0.03  # Nagle's algorithm would hold each back for 40 ms


def test_port_in_use_is_refused_with_its_number():
    with embedded_exchange() as url:
        port = urlsplit(url).port
        with pytest.raises(InvalidInput, match=f"port {port}"), embedded_exchange(port=port):
            pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ({"host": "203.0.113.1"}, r"cannot listen on 203\.0\.113\.1"),  # of no machine: RFC 5737
        ({"port": 70000}, "port 70000 is not within"),
    ],
)
def test_an_address_that_is_not_ours_is_refused(address, message):
    with pytest.raises(InvalidInput, match=message), embedded_exchange(**address):
        pass


def test_a_fault_of_the_exchange_is_a_system_error_envelope():
    class BrokenMarket(SimulatedMarket):
        def order_flow(self, *_):
            raise RuntimeError("broken")

    path = "/v5/market/orderbook?category=linear&symbol=BTCUSDT"
    with embedded_exchange(market=BrokenMarket()) as url:
        response = requests.get(url + path, timeout=10)
    assert (response.status_code, response.json()["retCode"]) == (500, 10016)


def test_app_can_be_built_without_a_server():
    app = build_app(SimulatedMarket(), Clock(0, speed=0))
    assert {route.path for route in app.routes} >= {"/v5/market/kline", "/v5/market/time"}


def test_a_request_that_calls_it_by_a_foreign_name_is_refused():
    with embedded_exchange() as url:
        foreign = {"Host": "attacker.example"}
        assert requests.get(f"{url}/v5/market/time", headers=foreign, timeout=10).status_code == 400
        local = {"Host": f"localhost:{urlsplit(url).port}"}
        assert requests.get(f"{url}/v5/market/time", headers=local, timeout=10).status_code == 200


def test_served_to_others_on_purpose_it_takes_their_names():
    with embedded_exchange(host="0.0.0.0") as url:
        named = {"Host": "exchange.example"}
        address = url.replace("0.0.0.0", "127.0.0.1")
        answer = requests.get(f"{address}/v5/market/time", headers=named, timeout=10)
    assert answer.status_code == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_loopback_has_another_address_too():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with embedded_exchange(host="::1") as url:
        assert requests.get(f"{url}/v5/market/time", timeout=10).status_code == 200
