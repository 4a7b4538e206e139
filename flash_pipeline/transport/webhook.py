"""One message to a webhook: bounded in time, and its address told to nobody.

The address of a webhook is its password. It is in no error, and in no log: what the libraries say
names the path, so their words are not passed on and their debug log is off for the call.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from flash_pipeline.errors import AlertNotDelivered
from flash_pipeline.transport.hosts import Host
from flash_pipeline.transport.wire import PoliteSession, Timeouts

TIMEOUTS = Timeouts(connect_s=3.0, read_s=5.0, total_s=8.0)
"""Of one try: a sensor is evaluated within a minute."""

_TRIES = 2
_PAUSE_S = 1.0
_LIBRARY_LOGS = ("urllib3.connectionpool", "urllib3.util.retry")


def post_json(
    url: str,
    message: Mapping[str, object],
    *,
    timeouts: Timeouts = TIMEOUTS,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Post a JSON message; any 2xx answer is taken for a receipt, its body is not read.

    A server that does not answer, is busy (429) or fails (5xx) is asked once more. No redirect is
    followed, and no login of this machine is sent along.

    Parameters
    ----------
    url : str
        Address of the webhook.
    message : mapping
        Fit for JSON.
    timeouts : Timeouts
        Of each of the two tries.
    sleep : callable
        Waits between them.

    Raises
    ------
    AlertNotDelivered
        If no try was taken; the message names the host and what it answered.
    """
    host = urlsplit(url).hostname or "the webhook"
    words = ""
    trust_env = not Host(url).is_loopback  # for its proxies and certificates
    with (
        _silence(),
        PoliteSession(timeouts, trust_env=trust_env, user_agent="flash-pipeline") as session,
    ):
        for each in range(_TRIES):
            if each:
                sleep(_PAUSE_S)
            words, final = _try(session, url, message, timeouts)
            if not words:
                return
            if final:
                break
    raise AlertNotDelivered(f"the webhook at {host} did not take a message: {words}")


def _try(
    session: PoliteSession, url: str, message: Mapping[str, object], timeouts: Timeouts
) -> tuple[str, bool]:
    """Return what went wrong, empty where nothing did, and whether another try is of no use."""
    try:
        with session.post(
            url,
            json=message,
            timeout=(timeouts.connect_s, timeouts.read_s),
            allow_redirects=False,
            stream=True,
        ) as answer:
            status = answer.status_code
    except (OSError, HTTPError, ValueError) as error:  # those of requests are OSErrors as well
        unsendable = isinstance(error, ValueError) and not isinstance(error, OSError)
        return type(error).__name__, unsendable or isinstance(error, requests.URLRequired)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return "", True
    busy = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return f"HTTP {status}", not busy


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the libraries from logging the path of a request, whatever level is set."""
    logs = [logging.getLogger(name) for name in _LIBRARY_LOGS]
    before = [log.disabled for log in logs]
    for log in logs:
        log.disabled = True
    try:
        yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled
