"""`flash_pipeline dev`: both UIs, for this machine alone, and nothing left when it ends."""

import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from flash_pipeline.cli import cli
from flash_pipeline.cli.dev import dev
from flash_pipeline_tests.cli.conftest import (
    CommandLine,
    free_port,
    kill_processes_of,
    let_the_tick_pass,
    processes_of,
)

PROXY = "ui.example.org"


@pytest.fixture(scope="module")
def serving(tmp_path_factory, exchange_url):
    """Both UIs, up: the command line, its process, and the two ports."""
    command = CommandLine(tmp_path_factory.mktemp("dev") / "home", exchange_url)
    ports = {"dagster": free_port(), "mlflow": free_port()}
    let_the_tick_pass()
    options = [f"--{name}-port={port}" for name, port in ports.items()]
    options.append(f"--allow-host={PROXY}")
    with command.started("dev", *options, log=command.home.with_name("log")) as process:
        try:
            for port in ports.values():
                wait_for(f"http://127.0.0.1:{port}/", process)
            yield command, process, ports
        finally:
            stop(process)
            kill_processes_of(command.home)


def wait_for(url, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}"
        try:
            requests.get(url, timeout=10)
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"{url} does not answer")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=40)


def own_address() -> str:
    """An address of this machine that is not loopback; none is asked over the network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    return address


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [("dagster", "Dagster"), ("mlflow", "MLflow")])
def test_serves_the_ui_on_loopback(serving, name, words):
    _, _, ports = serving
    answer = requests.get(f"http://127.0.0.1:{ports[name]}/", timeout=30)
    assert answer.status_code == 200
    assert words in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dagster", "mlflow"])
def test_nobody_else_can_connect(serving, name):
    _, _, ports = serving
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((own_address(), ports[name]), timeout=5)


@pytest.mark.slow
def test_mlflow_answers_no_foreign_host(serving):
    _, _, ports = serving
    url = f"http://127.0.0.1:{ports['mlflow']}/api/2.0/mlflow/experiments/search?max_results=1"
    assert requests.get(url, timeout=30).status_code == 200
    for host, status in {
        "attacker.example": 403,
        "localhost.attacker.example:5001": 403,
        "localhost:5001": 200,  # through a tunnel
        PROXY: 200,
        f"{PROXY}:8443": 200,
    }.items():
        assert requests.get(url, headers={"Host": host}, timeout=30).status_code == status


@pytest.mark.slow
def test_dagster_answers_its_own_pages_and_no_foreign_host_or_site(serving):
    _, _, ports = serving
    own = f"http://127.0.0.1:{ports['dagster']}"
    loaded = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"
    for headers, status in (
        ({"Host": "attacker.example"}, 400),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": f"http://127.0.0.1:{ports['mlflow']}"}, 403),
        ({"Host": PROXY, "Origin": f"https://{PROXY}"}, 200),
        ({"Origin": own}, 200),
    ):
        answer = requests.post(
            f"{own}/graphql", json={"query": loaded}, headers=headers, timeout=30
        )
        assert answer.status_code == status, headers
    (location,) = answer.json()["data"]["workspaceOrError"]["locationEntries"]
    assert location == {"name": "flash_pipeline.definitions", "loadStatus": "LOADED"}


@pytest.mark.slow
def test_mlflow_is_not_called_or_framed_by_other_sites(serving):
    _, _, ports = serving
    base = f"http://127.0.0.1:{ports['mlflow']}"
    origin = {"Origin": "http://attacker.example"}
    posted = requests.post(
        f"{base}/api/2.0/mlflow/experiments/create", json={"name": "x"}, headers=origin, timeout=30
    )
    assert posted.status_code == 403
    assert requests.get(f"{base}/", timeout=30).headers["X-Frame-Options"] == "DENY"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_what_runs_the_assets_knows_the_port_of_the_mlflow_ui(serving):
    command, process, ports = serving
    mark = f"FLASH_PIPELINE_MLFLOW_UI=http://127.0.0.1:{ports['mlflow']}\0".encode()
    children = [number for number in processes_of(command.home) if number != process.pid]
    assert len(children) > 2
    assert all(mark in Path(f"/proc/{number}/environ").read_bytes() for number in children)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_ends_on_ctrl_c_within_half_a_minute_and_leaves_no_process(serving):
    command, process, _ = serving
    assert len(processes_of(command.home)) > 2
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    assert time.monotonic() - started < 30
    deadline = time.monotonic() + 5
    while processes_of(command.home) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(command.home) == {}


@pytest.mark.parametrize(
    ("given", "linked"),
    [
        ({}, "http://127.0.0.1:{port}"),
        ({"FLASH_PIPELINE_MLFLOW_UI": "https://ui.example"}, "https://ui.example"),
        ({"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, None),  # its own address is the UI's
    ],
)
def test_the_metadata_of_runs_link_to_the_ui_that_is_served(monkeypatch, given, linked):
    started = []
    module = sys.modules[dev.callback.__module__]  # `flash_pipeline.cli.dev` is the command
    monkeypatch.setattr(module, "_supervise", lambda *given: started.append(given[1]))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    port = free_port()
    ports = (f"--dagster-port={free_port()}", f"--mlflow-port={port}")
    done = CliRunner().invoke(cli, ["dev", *ports])
    assert done.exit_code == 0, done.output
    (environ,) = started
    assert environ.get("FLASH_PIPELINE_MLFLOW_UI") == (linked and linked.format(port=port))


@pytest.mark.parametrize("option", ["--dagster-port", "--mlflow-port"])
def test_a_taken_port_is_one_line_that_names_it(command, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        spare = {"--dagster-port": str(free_port()), "--mlflow-port": str(free_port())}
        done = command("dev", *(word for pair in {**spare, option: port}.items() for word in pair))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: port {port} cannot be used: .*\n", done.stderr), done.stderr


@pytest.mark.parametrize("host", ["https://ui.example.org", "ui.example.org:8443", "*", ""])
def test_a_host_that_is_no_name_is_one_line_that_names_it(invoke, tmp_path, host):
    done = invoke(tmp_path, "dev", f"--allow-host={host}")
    assert (done.exit_code, done.output) == (1, "")
    assert f"--allow-host {host!r} is no name of a host: expected" in str(done.exception)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LocalHost"])
def test_loopback_is_no_name_of_a_proxy(invoke, tmp_path, host):
    done = invoke(tmp_path, "dev", f"--allow-host={host}")
    assert (done.exit_code, done.output) == (1, "")
    assert f"--allow-host {host!r} is a name of this machine" in str(done.exception)


def test_a_bad_setting_is_one_line_that_names_it(command):
    done = command("dev", FLASH_PIPELINE_BYBIT_URL="ftp://x")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: FLASH_PIPELINE_BYBIT_URL='ftp://x' .*\n", done.stderr)
