"""The Dagster UI as `flash_pipeline dev` starts it: its own pages and programs can use it alone."""

import os
import signal
import subprocess
import time
from contextlib import suppress

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from flash_pipeline.cli.dagster_ui.command import guarded_command
from flash_pipeline_tests.cli.conftest import free_port

pytestmark = pytest.mark.slow

FOREIGN = "http://attacker.example"
PROXY = "ui.example.org"
QUERY = {"query": "{ version }"}
MUTATION = {"query": "mutation { setNuxSeen }"}


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of `dagster dev`, guarded, with nothing loaded."""
    folder, port = tmp_path_factory.mktemp("ui"), free_port()
    words = ["dagster", "dev", "--empty-workspace", "-h", "127.0.0.1", "-p", str(port)]
    environ = {**os.environ, "DAGSTER_HOME": str(folder), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            guarded_command(words, [PROXY]),
            env=environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_for(port, process)
            yield port
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(port, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}"
        with suppress(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/server_info", timeout=10)
            return
        time.sleep(0.1)
    pytest.fail("the UI does not answer")


@pytest.fixture
def send(port):
    """Send a request to the UI: method, path, and headers in which PORT stands for its port."""

    def send(method, path, headers=(), **options):
        named = {name: value.replace("PORT", str(port)) for name, value in dict(headers).items()}
        url = f"http://127.0.0.1:{port}{path}"
        return requests.request(method, url, headers=named, timeout=30, **options)

    return send


@pytest.mark.parametrize(
    "host", ["attacker.example:PORT", "attacker.example", f"x.{PROXY}", "127.0.0.1.example:PORT"]
)
def test_a_request_that_calls_it_by_another_name_is_refused(send, host):
    """As the page of a site does that gives its name this machine's address."""
    origin = {"Host": host, "Origin": f"http://{host}"}
    for headers in (origin, {"Host": host}):
        assert send("POST", "/graphql", headers, json=QUERY).status_code == 400
        assert send("GET", "/", headers).status_code == 400


@pytest.mark.parametrize("origin", [FOREIGN, "http://localhost:8888", "http://[", "null", ""])
def test_a_page_of_another_site_can_post_nothing(send, origin):
    simple = {"Origin": origin, "Content-Type": "text/plain; x=application/json"}
    for options in ({"params": MUTATION}, {"data": '{"query": "mutation { setNuxSeen }"}'}):
        assert send("POST", "/graphql", simple, **options).status_code == 403
    assert send("POST", "/graphql", {"Origin": origin}, json=QUERY).status_code == 403
    reported = send("POST", "/report_asset_materialization/klines", {"Origin": origin})
    assert reported.status_code == 403


def test_a_picture_of_another_site_executes_nothing(send):
    """Browsers name no site with a GET, and Dagster executes mutations of one."""
    answer = send("GET", "/graphql", {"Accept": "image/*"}, params=MUTATION)
    assert (answer.status_code, answer.text) == (403, "Refused: send GraphQL by POST")


def test_no_page_of_another_site_frames_it(send):
    for path in ("/", "/graphql"):
        page = send("GET", path, {"Accept": "text/html"})
        assert page.status_code == 200
        assert page.headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:PORT", None),
        ("127.0.0.1:PORT", "http://127.0.0.1:PORT"),
        ("LocalHost:PORT", "http://localhost:PORT"),
        ("[::1]:PORT", "http://[::1]:PORT"),
        ("localhost:4000", "http://localhost:4000"),  # at the other end of a tunnel
        (PROXY, f"https://{PROXY}"),
        ("127.0.0.1:PORT", f"https://{PROXY}:8443"),  # by a proxy that puts its own Host in
    ],
)
def test_programs_and_its_own_pages_are_answered(send, host, origin):
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    answer = send("POST", "/graphql", headers, json=QUERY)
    assert answer.json()["data"]["version"]


def shake_hands(port, origin):
    url = f"ws://127.0.0.1:{port}/graphql"
    with connect(url, subprotocols=["graphql-ws"], origin=origin) as socket:
        socket.send('{"type": "connection_init"}')
        return socket.recv(timeout=30)


@pytest.mark.parametrize("origin", [FOREIGN, "http://localhost:8888", "null"])
def test_a_page_of_another_site_opens_no_websocket(port, origin):
    with pytest.raises(InvalidStatus, match="403"):
        shake_hands(port, origin)


def test_programs_and_its_own_pages_open_a_websocket(port):
    for origin in (None, f"http://127.0.0.1:{port}", f"https://{PROXY}"):
        assert shake_hands(port, origin) == '{"type":"connection_ack"}'
