"""`flash_pipeline exchange`: a market of its own, until Ctrl-C."""

import json
import re
import signal
import socket
import subprocess
from urllib.request import urlopen

import pytest

from flash_pipeline_tests.cli.conftest import COMMAND


def serve(command, *arguments):
    return subprocess.Popen(
        [*COMMAND, "exchange", *arguments],
        env=command.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serves_on_loopback_says_how_to_use_it_and_ends_on_ctrl_c(command):
    with serve(command, "--port", "0", "--now", "2024-03-20T10:30:00Z", "--speed", "0") as process:
        url = re.match(r"(http://127\.0\.0\.1:\d+) serves a SYNTHETIC", process.stdout.readline())[
            1
        ]
        with urlopen(f"{url}/v5/market/time", timeout=10) as answer:
            assert json.load(answer)["time"] == 1_710_930_600_000
        said = process.stdout.readline() + process.stdout.readline()
        assert f"FLASH_PIPELINE_BYBIT_URL={url} " in said
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "70000"), "port 70000"),
        (("--now", "noon"), "'noon'"),
        (("--replay", "/nowhere"), "/nowhere"),
        (("--instruments", "5"), "5"),
        (("--faults", "rate=2"), "2"),
        (("--speed", "-1"), "-1"),
        (("--seed", "-1"), "-1"),
    ],
)
def test_a_bad_value_is_one_line_that_names_it(command, invoke, arguments, words):
    done = invoke(command.home, "exchange", *arguments)
    assert done.exit_code != 0
    assert words in str(done.exception)


def test_a_taken_port_is_one_line(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("exchange", "--port", port)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"error: .*{port}.*\n", done.stderr)
