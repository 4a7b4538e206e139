"""The hosts that serve the same API, and which of them is asked now."""

import ipaddress
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.settings import redacted


@dataclass(frozen=True)
class Host:
    """A server of the API."""

    url: str
    """Such as `https://api.bybit.com`, without a slash at its end."""

    @property
    def is_loopback(self) -> bool:
        """Whether it runs on this machine."""
        name = urlsplit(self.url).hostname or ""
        try:
            return name == "localhost" or ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


class HostList:
    """Hosts in the order of preference; one that answers is kept until it fails.

    Parameters
    ----------
    urls : sequence of str
        Base URLs, at least one.
    failures : int
        Failures in a row, over all threads, after which the next host is asked.

    Raises
    ------
    InvalidConfig
        If a URL holds a user or a password: they would end in messages and files.
    """

    def __init__(self, urls: Sequence[str], *, failures: int = 3) -> None:
        if not urls:
            raise ValueError("no host given: expected at least one base URL")
        for url in urls:
            _require_no_user(url)
        self._hosts = [Host(url.rstrip("/")) for url in urls]
        self._most_failures = failures
        self._failures = 0
        self._lock = threading.Lock()

    @property
    def all_loopback(self) -> bool:
        """Whether no host lies beyond this machine."""
        return all(host.is_loopback for host in self._hosts)

    def current(self) -> Host:
        """Return the host to ask."""
        with self._lock:
            return self._hosts[0]

    def answered(self, host: Host) -> None:
        """Note that a host works: its failures so far are forgotten."""
        with self._lock:
            if host is self._hosts[0]:
                self._failures = 0

    def failed(self, host: Host) -> None:
        """Note that a host did not answer, or not well; after some of these comes the next."""
        with self._lock:
            # A late failure of a host that other threads have left already says nothing new.
            if host is self._hosts[0]:
                self._failures += 1
                if self._failures >= self._most_failures:
                    self._rotate()

    def leave(self, host: Host) -> None:
        """Ask the next host from now on; this one again when those after it were left."""
        with self._lock:
            if host is self._hosts[0]:
                self._rotate()

    def block(self, host: Host) -> bool:
        """Ask a host never again, and say whether there is another; the last one stays."""
        with self._lock:
            if host in self._hosts and len(self._hosts) > 1:
                self._hosts.remove(host)
                self._failures = 0
            return host not in self._hosts

    def _rotate(self) -> None:
        self._hosts.append(self._hosts.pop(0))
        self._failures = 0


def _require_no_user(url: str) -> None:
    if redacted(url) != url:
        raise InvalidConfig(
            f"host {redacted(url)} comes with a user, a password or a token: expected none"
        )
