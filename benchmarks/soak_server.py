"""`dagster dev` as the soak drives it: started, asked as the UI asks, killed, and counted."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

FINAL = frozenset({"SUCCESS", "FAILURE", "CANCELED"})

_START_S = 240.0
_END_S = 45.0
_ASK_S = 120.0

_EVALUATE = """
mutation Evaluate($selectorData: ScheduleSelector!, $timestamp: Float) {
  scheduleDryRun(selectorData: $selectorData, timestamp: $timestamp) {
    __typename
    ... on DryRunInstigationTick {
      evaluationResult {
        skipReason
        error { message }
        runRequests {
          runKey jobName runConfigYaml tags { key value } assetSelection { path }
        }
      }
    }
    ... on PythonError { message }
  }
}
"""
_LAUNCH = """
mutation Launch($executionParams: ExecutionParams!) {
  launchPipelineExecution(executionParams: $executionParams) {
    __typename
    ... on LaunchRunSuccess { run { id } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PythonError { message }
  }
}
"""
_RUNS = """
query Runs($limit: Int!) {
  runsOrError(limit: $limit) {
    ... on Runs { results { id status jobName startTime endTime tags { key value } } }
  }
}
"""


class ServerAway(Exception):
    """The server did not answer, or not with what was asked."""


@dataclass(frozen=True)
class Evaluation:
    """What a schedule said of a tick."""

    skipped: str
    """Its reason; empty where it wants a run."""
    requests: tuple[dict[str, Any], ...] = ()
    """The runs that it wants, as GraphQL has them."""


class DagsterDev:
    """One `dagster dev` after another on one home.

    Parameters
    ----------
    home : Path
        `FLASH_PIPELINE_HOME`: by it all processes are found again.
    environ : mapping
        Of the processes.
    log : Path
        File that their output is added to.
    definitions : str
        Module that is loaded.
    """

    def __init__(
        self,
        home: Path,
        environ: Mapping[str, str],
        log: Path,
        definitions: str = "benchmarks.soak_definitions",
    ) -> None:
        self.home = home
        self.port = free_port()
        self._environ = dict(environ)
        self._log = log
        self._definitions = definitions
        self._repository = {
            "repositoryLocationName": definitions,
            "repositoryName": "__repository__",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it, and return after how many seconds it answers with the code loaded."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "dagster", "dev", "-m", self._definitions),
                    *("-h", "127.0.0.1", "-p", str(self.port)),
                ],
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while time.monotonic() - begun < _START_S:
            with contextlib.suppress(ServerAway):
                self.evaluate("hourly", time.time())
                return time.monotonic() - begun
            time.sleep(0.3)
        raise ServerAway(f"dagster dev does not answer after {_START_S:.0f} s: see {self._log}")

    def kill(self) -> None:
        """End every process of its session at once, as a crash of the machine does."""
        process = self._running()
        for number in session(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()
        self._process = None

    def kill_all(self) -> None:
        """End whatever is left of the home's processes, of any session."""
        for number in processes_of(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def interrupt(self) -> float:
        """End it as Ctrl-C does, and return the seconds that took."""
        process, begun = self._running(), time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None
        return time.monotonic() - begun

    def evaluate(self, schedule: str, timestamp: float) -> Evaluation:
        """Evaluate a schedule at an instant (s since the epoch) as its page's test does."""
        selector = {**self._repository, "scheduleName": schedule}
        tick = self._ask(_EVALUATE, selectorData=selector, timestamp=timestamp)
        result = tick.get("evaluationResult")
        if result is None:
            raise ServerAway(str(tick.get("message", tick)))
        if result["error"] is not None:
            raise ServerAway(str(result["error"]["message"]))
        return Evaluation(result["skipReason"] or "", tuple(result["runRequests"] or ()))

    def launch(
        self, job: str, request: Mapping[str, Any], config: Mapping[str, Any], **tags: str
    ) -> str:
        """Launch what a schedule wants, and return the run's id."""
        wanted = {tag["key"]: tag["value"] for tag in request["tags"]} | tags
        selector: dict[str, Any] = {**self._repository, "pipelineName": job}
        if request["assetSelection"]:
            selector["assetSelection"] = request["assetSelection"]
            selector["assetCheckSelection"] = None  # an empty list would skip blocking checks
        answer = self._ask(
            _LAUNCH,
            executionParams={
                "mode": "default",
                "selector": selector,
                "runConfigData": json.dumps(config),
                "executionMetadata": {
                    "tags": [{"key": key, "value": value} for key, value in wanted.items()]
                },
            },
        )
        if answer["__typename"] != "LaunchRunSuccess":
            raise ServerAway(str(answer))
        return str(answer["run"]["id"])

    def runs(self, limit: int = 10) -> list[dict[str, Any]]:
        """Return the newest runs, the newest first."""
        return list(self._ask(_RUNS, limit=limit)["results"])

    def _ask(self, query: str, **variables: object) -> dict[str, Any]:
        try:
            answer = requests.post(
                f"http://127.0.0.1:{self.port}/graphql",
                json={"query": query, "variables": variables},
                timeout=_ASK_S,
            ).json()
        except (requests.RequestException, ValueError) as error:
            raise ServerAway(str(error)) from error
        if "errors" in answer:
            raise ServerAway(str(answer["errors"][0].get("message")))
        (value,) = answer["data"].values()
        return dict(value)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "dagster dev is not running"
        return self._process


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def session(leader: int) -> list[int]:
    """Return the processes of a session, its leader first, as /proc has them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # After the name, which may hold anything: state, parent, group, session.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                found.append(int(folder.name))
    return sorted(found, key=lambda number: number != leader)


def processes_of(home: Path) -> dict[int, str]:
    """Return the processes that were started for a home, each with its command line."""
    mark, found = f"FLASH_PIPELINE_HOME={home}\0".encode(), {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode(errors="replace").strip()
    return found


_ROLES = (
    ("dagster_webserver", "webserver"),
    ("dagster-webserver", "webserver"),
    ("dagster._daemon", "daemon"),
    ("dagster-daemon", "daemon"),
    ("api grpc", "code server"),
    ("code-server", "code server"),
    ("dagster dev", "dagster dev"),
)


def role(command: str) -> str:
    """Return what a process is, by its command line.

    Examples
    --------
    >>> role("python -m dagster_webserver --port 3000"), role("python -c from multiprocessing")
    ('webserver', 'run or helper')
    """
    return next((name for mark, name in _ROLES if mark in command), "run or helper")


def cpu_of_runs(home: Path) -> dict[int, float]:
    """Return the processor seconds of each process of a home that executes a run."""
    tick, found = os.sysconf("SC_CLK_TCK"), dict[int, float]()
    for number, command in processes_of(home).items():
        if role(command) == "run or helper":
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                found[number] = (int(fields[11]) + int(fields[12])) / tick
    return found


def memory_by_role(home: Path) -> dict[str, int]:
    """Return the resident bytes of a home's processes, added up by role."""
    page, found = os.sysconf("SC_PAGE_SIZE"), dict[str, int]()
    for number, command in processes_of(home).items():
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
            found[role(command)] = found.get(role(command), 0) + pages * page
    return found
