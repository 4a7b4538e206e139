"""One HTTP answer, and the errors that its status and content type stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flash_pipeline.errors import AccessDenied, ExchangeFault, RateLimited, RequestRejected


@dataclass(frozen=True)
class Answer:
    """What a server answered, read to its end."""

    url: str
    """Address asked, with its query and without secrets: it stands in messages."""
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


_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.TOO_EARLY}


def is_json(answer: Answer) -> bool:
    """Say whether an answer may be the server's own: JSON as far as its type and start tell."""
    named = not answer.media_type or "json" in answer.media_type
    return named and answer.body.lstrip()[:1] in {b"{", b"["}


def check_status(answer: Answer, *, symbol: str | None = None) -> None:
    """Pass an answer of HTTP 200 only; whoever knows a server's own 403 looks at that before.

    Raises
    ------
    RateLimited
        For HTTP 429.
    ExchangeFault
        For HTTP 5xx, for those that name a passing trouble (408, 421, 425), and for a page where
        JSON was due: whatever stands before the server wrote it.
    AccessDenied
        For HTTP 403.
    RequestRejected
        For HTTP 404, and for any other status that comes with JSON.
    """
    if answer.status == HTTPStatus.OK:
        return
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        kind: type[RateLimited | ExchangeFault | AccessDenied | RequestRejected] = RateLimited
    elif answer.status == HTTPStatus.FORBIDDEN:
        kind = AccessDenied
    elif answer.status == HTTPStatus.NOT_FOUND or not _may_pass(answer):
        kind = RequestRejected
    else:
        kind = ExchangeFault
    raise kind(f"{answer.url} answered HTTP {answer.status}", symbol=symbol, status=answer.status)


def _may_pass(answer: Answer) -> bool:
    of_server = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status in _PASSING
    page = answer.status >= HTTPStatus.BAD_REQUEST and not is_json(answer)
    return of_server or page


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
