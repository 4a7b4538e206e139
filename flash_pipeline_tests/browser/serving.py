"""`flash_pipeline dev` in a session of its own, up for a block."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from flash_pipeline_tests.cli.conftest import (
    COMMAND,
    CommandLine,
    free_port,
    kill_processes_of,
    processes_of,
)

_UP_S = 180
_DOWN_S = 60


@dataclass(frozen=True)
class Serving:
    """Both UIs and the process that serves them."""

    command: CommandLine
    process: subprocess.Popen
    dagster_url: str
    mlflow_url: str

    @property
    def home(self) -> Path:
        return self.command.home

    @property
    def alive(self) -> dict[int, str]:
        """The processes that were started for the home."""
        return processes_of(self.home)

    def stop(self) -> int:
        """End it as Ctrl-C does, and return its status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=_DOWN_S)
        deadline = time.monotonic() + 10
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.1)
        return status


@contextmanager
def serving(home: Path, url: str = "") -> Iterator[Serving]:
    """Serve both UIs on free ports, by default on the exchange that they bring."""
    command = CommandLine(home, url)
    ports = free_port(), free_port()
    options = (f"--dagster-port={ports[0]}", f"--mlflow-port={ports[1]}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with (
        home.with_name("dev.log").open("w") as log,
        subprocess.Popen(
            [*COMMAND, "dev", *options],
            env=command.environ(FLASH_PIPELINE_RECIPE="demo"),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        served = Serving(command, process, *(f"http://127.0.0.1:{port}" for port in ports))
        try:
            for url in (served.dagster_url, served.mlflow_url):
                _wait_for(url, process)
            yield served
        finally:
            if process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    served.stop()
            kill_processes_of(home)
            process.kill()


def _wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ended with {process.returncode}"
        with suppress(requests.RequestException):
            requests.get(url, timeout=10)
            return
        time.sleep(0.2)
    pytest.fail(f"{url} does not answer")
