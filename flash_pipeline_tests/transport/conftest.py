import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from flash_pipeline.transport import Answer, HttpTransport, check_status

Write = Callable[[socket.socket], None]


class FakeClock:
    """Time that passes only while somebody sleeps; safe to share between threads."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.slept.append(seconds)
            self.now += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class WireServer:
    """A server on loopback that answers with bytes as the test writes them, the last for ever."""

    def __init__(self, *answers: Write | bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # closed under it
            while True:
                connection, _ = self._socket.accept()
                with connection, suppress(OSError):  # the client hung up
                    connection.settimeout(5)
                    self.requests.append(self._read_request(connection))
                    answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                    else:
                        answer(connection)

    @staticmethod
    def _read_request(connection: socket.socket) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request and (more := connection.recv(65536)):
            request += more
        return request


@pytest.fixture
def serve() -> Iterator[Callable[..., WireServer]]:
    """Start a server that gives the answers of the test."""
    servers = []

    def serve(*answers: Write | bytes) -> WireServer:
        servers.append(WireServer(*answers))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


def _http(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if length is None else length}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture(scope="session")
def http() -> Callable[..., bytes]:
    """Write an answer down as it goes over the wire."""
    return _http


class Script(BaseAdapter):
    """Plays prepared answers without a wire, the last one for ever; errors are raised."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes] | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        with self._lock:
            self.asked.append(request.url or "")
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code, headers, body = answer
        response.headers.update(headers)
        response.raw = BytesIO(body)
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(clock) -> Iterator[Callable[..., tuple[HttpTransport, Script]]]:
    """Make a transport to `https://first.test` (and more) whose hosts follow scripts."""
    transports = []

    def scripted(
        *answers: Any, second: "tuple[Any, ...] | Script" = (), **options: Any
    ) -> tuple[HttpTransport, Script]:
        session = requests.Session()
        script = Script(*answers)
        session.mount("https://first.test", script)
        hosts = ["https://first.test"]
        if second:
            other = second if isinstance(second, Script) else Script(*second)
            session.mount("https://second.test", other)
            hosts.append("https://second.test")
        transport = HttpTransport(
            hosts, session=session, sleep=clock.sleep, monotonic=clock, clock=clock, **options
        )
        transports.append(transport)
        return transport, script

    yield scripted
    for transport in transports:
        transport.close()


def _read_ok(answer: Answer) -> bytes:
    check_status(answer)
    return answer.body


@pytest.fixture(scope="session")
def read_ok() -> Callable[[Answer], bytes]:
    """Read the body of HTTP 200, and refuse every other status as transports do."""
    return _read_ok
