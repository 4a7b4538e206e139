import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from requests.adapters import BaseAdapter

from flash_pipeline.bybit import BybitClient
from flash_pipeline.transport import Answer, RequestBudget

URL = "https://exchange.test"
JSON = {"Content-Type": "application/json; charset=utf-8"}


def _answer(
    body: Any = None, *, status: int = 200, content: bytes | None = None, **headers: str
) -> Answer:
    named = {name.replace("_", "-").lower(): text for name, text in headers.items()}
    content = json.dumps(body).encode() if content is None else content
    return Answer(URL, status, named, content)


@pytest.fixture(scope="session")
def answer() -> Callable[..., Answer]:
    """Make an answer of a JSON body, or of raw content."""
    return _answer


def _envelope(result: Any = None, **fields: Any) -> dict[str, Any]:
    whole = {"retCode": 0, "retMsg": "OK", "result": result or {}, "retExtInfo": {}}
    return {**whole, "time": 1746288000500, **fields}


@pytest.fixture(scope="session")
def envelope() -> Callable[..., dict[str, Any]]:
    """Make the envelope of a successful answer of 2025-05-03T16:00Z."""
    return _envelope


class Call:
    """A request that a scripted exchange was asked."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        parts = urlsplit(url)
        self.url = url
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query))
        self.options = options


class Script(BaseAdapter):
    """An exchange that gives prepared answers, one per request, the last one for ever.

    An answer is a JSON body, (status, headers, content), an error that is raised, or a function
    of the call that gives one of these.
    """

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[Call] = []
        self._lock = threading.Lock()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        call = Call(request.url or "", options)
        with self._lock:
            self.asked.append(call)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer = answer(call) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        if not isinstance(answer, tuple):
            answer = (200, JSON, json.dumps(answer).encode())
        response = requests.Response()
        response.request, response.url = request, call.url
        response.status_code, headers, content = answer
        response.headers.update(headers)
        response.raw = BytesIO(content)
        return response

    def close(self) -> None:
        pass


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that the client of `scripted` waited between tries."""
    return []


@pytest.fixture
def scripted(pauses) -> Iterator[Callable[..., tuple[BybitClient, Script]]]:
    """Make a client whose exchange follows a script."""
    clients = []

    def scripted(*answers: Any, **options: Any) -> tuple[BybitClient, Script]:
        script = Script(*answers)
        session = requests.Session()
        session.mount(URL, script)
        options = {"sleep": pauses.append, "budget": RequestBudget(None), **options}
        client = BybitClient(URL, session=session, **options)
        clients.append(client)
        return client, script

    yield scripted
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded answers, beside that of the recorded candles."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "market"
    candles = Path(os.environ.get("FLASH_PIPELINE_REAL_DATA", beside))
    folder = candles.resolve().parent / "bybit" / "recorded"
    if not folder.is_dir():
        pytest.skip(f"no recorded answers in {folder}: set FLASH_PIPELINE_REAL_DATA")
    return folder
