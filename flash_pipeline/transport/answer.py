"""One HTTP answer, and the errors that its status and content type stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flash_pipeline.errors import AccessDenied, ExchangeFault, RateLimited, RequestRejected


@dataclass(frozen=True)
class Answer:
    """What a server answered, read to its end."""

    url: str
    """Address asked, with its query."""
    status: int
    """HTTP status."""
    headers: Mapping[str, str]
    """Headers by their names in lower case."""
    body: bytes
    """Content, decompressed."""

    @property
    def media_type(self) -> str:
        """Content type in lower case without its parameters; empty where none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_status(answer: Answer, *, symbol: str | None = None) -> None:
    """Pass an answer of HTTP 200 only; whoever knows a server's own 403 looks at that before.

    Raises
    ------
    RateLimited
        For HTTP 429.
    ExchangeFault
        For HTTP 5xx.
    AccessDenied
        For HTTP 403.
    RequestRejected
        For any other status.
    """
    if answer.status == HTTPStatus.OK:
        return
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind: type[RateLimited | ExchangeFault | AccessDenied | RequestRejected] = RateLimited
    elif answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ExchangeFault
    elif answer.status == HTTPStatus.FORBIDDEN:
        kind = AccessDenied
    else:
        kind = RequestRejected
    raise kind(f"{answer.url} answered HTTP {answer.status}", symbol=symbol, status=answer.status)


def require_json(answer: Answer, *, symbol: str | None = None) -> None:
    """Pass an answer that says it is JSON, or that does not say what it is.

    Raises
    ------
    ExchangeFault
        If it says it is something else: a page of a proxy or a front, gone on another try.
    """
    if answer.media_type and "json" not in answer.media_type:
        raise ExchangeFault(
            f"{answer.url} answered no JSON but {answer.media_type} (HTTP {answer.status})",
            symbol=symbol,
            status=answer.status,
        )
