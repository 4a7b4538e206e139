"""Keeps quiet after a ban: no request leaves until it is over, not from a later process either."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flash_pipeline.errors import CircuitOpen
from flash_pipeline.market import iso_utc

_MINUTE_S = 60


class Circuit:
    """Refuses calls for a while after a ban for the request rate.

    Parameters
    ----------
    path : Path or None
        Small JSON file that tells other processes of the ban; None keeps it in memory. One that
        is garbled, or that tells of a ban longer than any of ours, counts as absent.
    pause_s : float
        How long a ban lasts, seconds.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        pause_s: float = 10 * _MINUTE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._pause_ms = int(pause_s * 1000)
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0
        self._seen: int | None = None  # when the file was last written, as of its last reading

    def open(self, reason: str) -> int:
        """Refuse every call from now on, and return until when, ms since the epoch.

        A file that cannot be written is no error: the ban is then known to this process alone.
        """
        with self._lock:
            self._until = max(self._until, self._now_ms() + self._pause_ms)
            self._store(reason)
            return self._until

    def check(self, *, symbol: str | None = None) -> None:
        """Pass while there is no ban.

        Raises
        ------
        CircuitOpen
            Until a ban is over.
        """
        with self._lock:
            self._load()
            until, now = self._until, self._now_ms()
        if now < until:
            raise CircuitOpen(
                f"no request is sent until {iso_utc(until)}, in {(until - now) / 1000:.0f} s: "
                "this address was banned for its request rate",
                until=until,
                symbol=symbol,
            )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _store(self, reason: str) -> None:
        if self._path is None:
            return
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        text = json.dumps({"until": self._until, "until_utc": iso_utc(self._until), "why": reason})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._path)
        except OSError:  # a full disk or a read-only home must not hide the ban itself
            return

    def _load(self) -> None:
        """Learn of a ban that another process wrote down."""
        if self._path is None:
            return
        try:
            written = self._path.stat().st_mtime_ns
            if written == self._seen:
                return
            self._seen = written
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):  # absent or garbled
            return
        until = content.get("until") if isinstance(content, dict) else None
        # A longer ban than ours was written by a clock that has been set back since.
        if type(until) is int and until <= self._now_ms() + self._pause_ms:
            self._until = max(self._until, until)
