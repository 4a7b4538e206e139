"""A whole HTTP answer as a value, taken from an application and given to a client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON = "application/json"
HTML = "text/html"


def header_names(values: Mapping[str, str | int]) -> dict[str, str]:
    """Return headers of keyword arguments: `retry_after=1` is `retry-after: 1`."""
    return {name.replace("_", "-"): str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Answer:
    """What a client is to receive."""

    status: int
    """HTTP status."""
    headers: dict[str, str]
    """Names in lower case; the length of the body is added when it is sent."""
    body: bytes
    """All of it."""

    @classmethod
    def text(
        cls, status: int, body: str, content_type: str = HTML, **headers: str | int
    ) -> "Answer":
        """Return an answer of a text; headers are named as in `header_names`."""
        return cls(status, {"content-type": content_type, **header_names(headers)}, body.encode())

    @classmethod
    def envelope(cls, code: int, message: str, now_ms: int, **headers: str | int) -> "Answer":
        """Return a refusal as the exchange writes it, over HTTP 200."""
        body = {
            "retCode": code,
            "retMsg": message,
            "result": {},
            "retExtInfo": {},
            "time": now_ms,
        }
        return cls.text(200, json.dumps(body, separators=(",", ":")), JSON, **headers)

    def json(self) -> Any:  # noqa: ANN401 - JSON has no narrower type
        """Return what the body holds."""
        return json.loads(self.body)

    def with_json(self, body: Any) -> "Answer":  # noqa: ANN401 - JSON has no narrower type
        """Return the same answer with another body."""
        text = json.dumps(body, separators=(",", ":"))
        return Answer(self.status, self.headers, text.encode())

    def start(self) -> Message:
        """Return the message that begins the answer, with the length of its body."""
        headers = {**self.headers, "content-length": str(len(self.body))}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http.response.start", "status": self.status, "headers": pairs}

    async def send(self, send: Send) -> None:
        """Give the whole answer to a client."""
        await send(self.start())
        await send({"type": "http.response.body", "body": self.body})


async def answer_of(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    """Return what an application answers to a request, without sending it."""
    status, headers, body = 500, {}, bytearray()

    async def take(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status = message["status"]
            headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, take)
    return Answer(status, headers, bytes(body))
