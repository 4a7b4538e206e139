import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest
import requests

COMMAND = [sys.executable, "-m", "flash_pipeline.exchange"]


@contextmanager
def _running(*options: str):
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def _fails(*options: str) -> str:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_says_that_it_is_synthetic_serves_and_stops_cleanly(number):
    with _running("--now", "2026-01-01T00:30:00Z", "--seed", "3") as (process, line):
        url = re.match(r"(http://127\.0\.0\.1:\d+) ", line)[1]
        assert "SYNTHETIC market of seed 3" in line
        body = requests.get(f"{url}/v5/market/time", timeout=10).json()
        assert 0 <= body["time"] - 1767227400000 < 10_000
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


def test_says_that_it_is_a_replay(tmp_path, recorded):
    pq.write_table(recorded, tmp_path / "BTCUSDT_60.parquet")
    with _running("--replay", str(tmp_path)) as (_, line):
        assert "REPLAY of" in line
        assert "2024-06-01T00:00Z to 2024-06-01T04:00Z" in line


def test_a_port_in_use_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = _fails("--port", port)
    assert message.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")
    assert message.count("\n") == 1


def test_a_missing_folder_is_one_line(tmp_path):
    message = _fails("--replay", str(tmp_path / "nowhere"))
    assert message.startswith("error: replay folder")
    assert message.count("\n") == 1


def test_a_malformed_time_is_one_line():
    assert _fails("--now", "tomorrow").startswith("error: time 'tomorrow' is malformed")


def test_serves_many_instruments_with_faults_and_a_limit():
    options = ("--instruments", "40", "--faults", "rate=1,burst=1,kinds=code_10000")
    with _running(*options, "--rate-limit", "5") as (_, line):
        assert "40 instruments" in line
        url = re.match(r"(\S+) ", line)[1]
        path = f"{url}/v5/market/instruments-info?category=linear"
        first, second = (requests.get(path, timeout=10) for _ in range(2))
        counts = requests.get(f"{url}/faults", timeout=10).json()["counts"]
    assert [first.json()["retCode"], second.json()["retCode"]] == [10000, 0]
    assert second.headers["X-Bapi-Limit-Status"] == "3"
    assert counts == {"code_10000": 1}


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--faults", "rate=9", "fault rate 9"),
        ("--instruments", "3", "3 instruments"),
        ("--rate-limit", "0", "rate limit 0"),
    ],
)
def test_a_wrong_option_is_one_line(option, value, named):
    message = _fails(option, value)
    assert named in message
    assert message.count("\n") == 1


def test_says_who_can_reach_it_where_that_is_not_this_machine_alone():
    with _running("--host", "0.0.0.0") as (process, line):
        assert "http://0.0.0.0:" in line
        assert process.stdout.readline().startswith(
            "open to all who reach 0.0.0.0: it has no login"
        )
