"""Doctor on what is reached over a socket: MLflow, the UIs' ports, the exchange and its clock."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from urllib.parse import urlsplit

from flash_pipeline.cli.doctor.finding import Finding
from flash_pipeline.cli.doctor.processes import describe, has_variable, listeners_on
from flash_pipeline.errors import (
    CircuitOpen,
    CountryBlocked,
    ExchangeError,
    InvalidInput,
    TrackingUnreachable,
)
from flash_pipeline.settings import Settings, redacted

_LOOPBACK = "127.0.0.1"
_PATIENCE_S = 3.0
_SKEW_WARN_S = 5.0
_SKEW_FAIL_S = 120.0
"""The hourly run starts two minutes past the hour by this machine's clock."""


def check_tracking(settings: Settings) -> Finding:
    """Say whether MLflow answers, and which version is the champion."""
    database = settings.mlflow_database
    if settings.tracking_uri == f"sqlite:///{database}" and not database.exists():
        return Finding("mlflow", "ok", f"{database} is not there yet: the first run makes it")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    from flash_pipeline.training.tracking import CHAMPION, Registry

    try:
        champion = Registry(settings).at(CHAMPION)
    except TrackingUnreachable as error:
        mend = "start that server, correct MLFLOW_TRACKING_URI, or unset it for sqlite in the home"
        return Finding("mlflow", "fail", str(error), mend)
    version = f"champion is version {champion.version}" if champion else "no champion yet"
    return Finding("mlflow", "ok", f"{redacted(settings.tracking_uri)} answers: {version}")


def check_port(name: str, port: int, settings: Settings) -> Finding:
    """Say whether a UI's port is free for `flash_pipeline dev`, and who holds it where not."""
    check = f"port {port}"
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            holders = listeners_on(port)
        else:
            return Finding(check, "ok", f"free for the {name} UI")
    by = ", ".join(map(describe, holders)) or "another process"
    ours = ("MLFLOW_BACKEND_STORE_URI", settings.tracking_uri)  # as `dev` starts both
    if any(has_variable(pid, *ours) for pid in holders):
        return Finding(check, "ok", f"in use by flash_pipeline dev: {by}")
    mend = f"end it, or flash_pipeline dev --{name.lower()}-port N"
    return Finding(check, "warn", f"in use by {by}", mend)


def check_exchange(settings: Settings) -> list[Finding]:
    """Say whether each host of the exchange answers, and how far its clock is from ours."""
    from flash_pipeline.bybit import BybitClient
    from flash_pipeline.exchange import embedded_exchange

    def clock_of(*urls: str) -> int:
        with BybitClient(
            urls,
            circuit_file=settings.bybit_circuit,
            attempts=1,
            read_timeout_s=_PATIENCE_S,
        ) as client:
            return client.server_time()

    if settings.bybit_urls:
        found = [ask_host("exchange", url, partial(clock_of, url)) for url in settings.bybit_urls]
        return _with_spares(found)
    try:
        with embedded_exchange() as url:
            clock_of(url)
    except (ExchangeError, InvalidInput) as error:
        mend = "free the loopback interface for this user, or set FLASH_PIPELINE_BYBIT_URL"
        return [Finding("exchange", "fail", f"the embedded exchange: {error}", mend)]
    return [
        Finding(
            "exchange",
            "ok",
            "embedded: a simulated market, with this machine's clock; "
            "FLASH_PIPELINE_BYBIT_URL=https://api.bybit.com is the real one",
        )
    ]


def check_yahoo(settings: Settings) -> list[Finding]:
    """Say whether Yahoo answers, where symbols come from there and it is not the embedded one."""
    if not (settings.yahoo_tickers and settings.yahoo_urls):
        return []
    from flash_pipeline.transport import Timeouts
    from flash_pipeline.yahoo import YahooClient

    timeouts = Timeouts(_PATIENCE_S, _PATIENCE_S, 3 * _PATIENCE_S)

    def clock_of(url: str) -> int:
        tickers = dict(settings.yahoo_tickers)
        with YahooClient([url], tickers, attempts=1, timeouts=timeouts) as client:
            return client.now()

    found = [ask_host("yahoo", url, partial(clock_of, url)) for url in settings.yahoo_urls]
    return _with_spares(found)


def ask_host(check: str, url: str, clock: Callable[[], int]) -> Finding:
    """Return whether a host answers, and how far its clock (ms since the epoch) is from ours."""
    asked = time.time()
    try:
        theirs = clock() / 1000
    except ExchangeError as error:
        return Finding(check, "fail", f"{url}: {error}", _mend(error))
    answered = time.time()
    skew, took = theirs - (asked + answered) / 2, answered - asked
    words = f"{url} answers in {took * 1000:.0f} ms"
    if urlsplit(url).hostname in {_LOOPBACK, "localhost", "::1"}:
        return Finding(
            check, "ok", f"{words}; on this machine, with a clock {skew:+,.1f} s from it"
        )
    ahead = "behind" if skew > 0 else "ahead of"
    found = f"{words}; this machine's clock is {abs(skew):,.1f} s {ahead} its clock"
    mend = "set this machine's clock (timedatectl set-ntp true): the hourly run starts by it"
    if abs(skew) > _SKEW_FAIL_S + took:
        return Finding(check, "fail", found, mend)
    if abs(skew) > _SKEW_WARN_S + took:
        return Finding(check, "warn", found, mend)
    return Finding(check, "ok", found)


def _with_spares(found: list[Finding]) -> list[Finding]:
    """Return the findings on hosts: one that fails beside one that answers is a warning."""
    if all(each.status == "fail" for each in found):
        return found
    return [
        Finding(each.check, "warn", each.found, each.mend)
        if each.status == "fail" and "clock is" not in each.found
        else each
        for each in found
    ]


def _mend(error: ExchangeError) -> str:
    if isinstance(error, CountryBlocked):
        return "name the host of your region in FLASH_PIPELINE_BYBIT_URL, such as api.bybit.eu"
    if isinstance(error, CircuitOpen):
        return "wait until then: a request before it would prolong the ban"
    return "look at the network, the proxy (HTTPS_PROXY), the host's name and its status page"
