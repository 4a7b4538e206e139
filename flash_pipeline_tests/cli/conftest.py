"""The command line as a person starts it: a process, a home and an exchange of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from flash_pipeline.cli import cli
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline_tests.conftest import VARIABLES

NOW = "2024-03-20T10:30:00Z"
LAST_CLOSE = parse_instant("2024-03-20T10:00:00Z")
SMALL = ("--recipe", "demo", "--symbols", "BTCUSDT,ETHUSDT", "--from", "2024-02", "--to", "2024-03")
COMMAND = (sys.executable, "-m", "flash_pipeline")


@dataclass(frozen=True)
class CommandLine:
    """`python -m flash_pipeline` on one home and one exchange."""

    home: Path
    url: str

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    def environ(self, **variables: str) -> dict[str, str]:
        foreign = {name for name in os.environ if name in VARIABLES or "MLFLOW" in name}
        return {
            **{name: value for name, value in os.environ.items() if name not in foreign},
            "FLASH_PIPELINE_HOME": str(self.home),
            "FLASH_PIPELINE_BYBIT_URL": self.url,
            "OMP_NUM_THREADS": "1",  # two that wait for each other on a busy machine take minutes
            **variables,
        }

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environ(**variables),
            capture_output=True,
            text=True,
            timeout=240,
        )

    @contextmanager
    def started(self, *arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start it, and kill it where the block leaves it alive.

        What it says goes to the file `log`, or its messages to `stderr`, a pipe.
        """
        with ExitStack() as stack:
            streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            if log is not None:
                file = stack.enter_context(log.open("w"))
                streams = {"stdout": file, "stderr": subprocess.STDOUT}
            process = stack.enter_context(
                subprocess.Popen([*COMMAND, *arguments], env=self.environ(), text=True, **streams)
            )
            stack.callback(process.kill)
            yield process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def let_the_tick_pass() -> None:
    """Wait while the hourly schedule is about to start a run of its own."""
    second = time.time() % 3600
    if 60 <= second < 125:
        time.sleep(125 - second)


def processes_of(home: Path) -> dict[int, str]:
    """The processes that were started for a home, by id; none where there is no /proc."""
    mark, found = f"FLASH_PIPELINE_HOME={home}\0".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode()
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def kill_processes_of(home: Path) -> None:
    for number in processes_of(home):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@pytest.fixture(scope="session")
def exchange_url():
    """An exchange whose clock stands still at NOW."""
    with embedded_exchange(clock=Clock(parse_instant(NOW), speed=0)) as url:
        yield url


@pytest.fixture(scope="session")
def finished(tmp_path_factory, exchange_url):
    """A home after its first run, and what that run printed: to be read, never changed."""
    command = CommandLine(tmp_path_factory.mktemp("run") / "home", exchange_url)
    done = command("run", *SMALL)
    assert done.returncode == 0, done.stderr
    return command, done


@pytest.fixture
def used(finished, tmp_path):
    """A copy of that home, to be changed."""
    command, _ = finished
    home = tmp_path / "used"
    shutil.copytree(command.home, home)
    return CommandLine(home, command.url)


@pytest.fixture
def invoke(monkeypatch):
    """Run a command on a home within this process, which has what is slow to import already."""

    def invoke(home, *arguments, **variables):
        for name, value in {"FLASH_PIPELINE_HOME": str(home), **variables}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, list(arguments))

    return invoke


@pytest.fixture
def command(tmp_path, exchange_url):
    return CommandLine(tmp_path / "home", exchange_url)
