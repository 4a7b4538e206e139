"""One request and its answer, within bounds of time and size; every failure one of the tree's."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from requests import Session
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.exceptions import HTTPError

from flash_pipeline.errors import (
    ExchangeError,
    ExchangeFault,
    ExchangeUnreachable,
    InvalidConfig,
    RequestRejected,
)
from flash_pipeline.settings import redacted
from flash_pipeline.transport.answer import Answer
from flash_pipeline.transport.deadline import DeadlineAdapter

__all__ = ["PoliteSession", "Query", "Session", "Timeouts", "ask"]

Query = Mapping[str, str | int]
"""Parameters of a call."""

_CHUNK_BYTES = 64 * 1024
_POOL_SIZE = 64  # connections kept: a thread never waits for one, nor makes one anew


@dataclass(frozen=True)
class Timeouts:
    """How long an answer may take, in seconds.

    Raises
    ------
    InvalidConfig
        If one is not positive.
    """

    connect_s: float = 5.0
    """Until a connection stands."""
    read_s: float = 20.0
    """Until the next bytes of the answer."""
    total_s: float = 60.0
    """Until the whole answer, from the request on, at whatever pace its bytes come."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InvalidConfig(f"timeout {name}={value!r} is not positive")


class PoliteSession(Session):
    """A pooled session that follows no redirect, logs in nowhere and ends answers in time."""

    def __init__(self, timeouts: Timeouts, *, trust_env: bool, user_agent: str) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, DeadlineAdapter(timeouts.total_s, _POOL_SIZE))
        self.headers["User-Agent"] = user_agent
        self.trust_env = trust_env  # for its proxies and certificates
        self.auth = _no_login  # otherwise requests sends what ~/.netrc has for the host

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Name none: otherwise requests reads a redirect's body whole, of whatever size."""
        del resp
        return None


def _no_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def ask(
    session: Session,
    url: str,
    query: Query,
    *,
    timeouts: Timeouts,
    most_bytes: int,
    symbol: str | None = None,
) -> Answer:
    """Send a GET request and return the answer, whatever its status but a redirect.

    Raises
    ------
    ExchangeUnreachable
        If there is no connection, or no whole answer in time.
    RequestRejected
        If the TLS certificate is not valid, the URL cannot be asked, or the answer is a redirect.
    ExchangeFault
        If the answer is larger than `most_bytes`: no answer of the API, though another try or
        another host may give one.
    """
    try:
        with session.get(
            url,
            params=query,
            timeout=(timeouts.connect_s, timeouts.read_s),
            allow_redirects=False,
            stream=True,
        ) as response:
            _refuse_redirect(response, symbol)
            body = _read_body(response, most_bytes, symbol)
            headers = {name.lower(): text for name, text in response.headers.items()}
            return Answer(redacted(response.url or url), response.status_code, headers, body)
    except (OSError, HTTPError) as error:  # an error of requests is an OSError as well
        raise _error_of(error, url, symbol) from error


def _refuse_redirect(response: requests.Response, symbol: str | None) -> None:
    status = response.status_code
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        target = redacted(response.headers.get("Location", ""))
        asked = redacted(response.url)
        raise RequestRejected(
            f"{asked} answered HTTP {status}, a redirect to {target!r}: none is followed",
            symbol=symbol,
            status=status,
        )


def _read_body(response: requests.Response, most_bytes: int, symbol: str | None) -> bytes:
    body = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > most_bytes:
            raise ExchangeFault(
                f"{redacted(response.url)} answered more than {most_bytes} bytes: not read further",
                symbol=symbol,
                status=response.status_code,
            )
    return bytes(body)


def _error_of(error: Exception, url: str, symbol: str | None) -> ExchangeError:
    host, url, words = urlsplit(url).netloc.rpartition("@")[2], redacted(url), redacted(str(error))
    if _is_about_certificate(error):
        return RequestRejected(f"{url}: the TLS certificate is not valid: {words}", symbol=symbol)
    unusable = isinstance(error, InvalidURL | InvalidSchema | MissingSchema)
    # A plain OSError comes from this machine's own set-up, such as an absent CA bundle.
    if unusable or not isinstance(error, requests.RequestException | HTTPError):
        return RequestRejected(f"{url} cannot be asked: {words}", symbol=symbol)
    return ExchangeUnreachable(
        f"the exchange at {host} does not answer: {type(error).__name__}", symbol=symbol
    )


def _is_about_certificate(error: BaseException | None) -> bool:
    """Say whether a certificate was refused; other failures of TLS may pass, as resets do."""
    if error is None or isinstance(error, ssl.SSLCertVerificationError):
        return error is not None
    # The libraries wrap one another's errors: as a cause, as a context or as an argument.
    inner = (error.__cause__, error.__context__, *error.args)
    return any(_is_about_certificate(e) for e in inner if isinstance(e, BaseException))
