"""One run at a time on a home.

The lock is the kernel's (`flock`), so it is free again the moment its holder ends, however it
ends. The file names the last run that held it: where that run is not finished and the lock is
free, the run was killed.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flash_pipeline.errors import HomeBusy

_PAUSE_S = 0.2
_held: dict[Path, int] = {}
"""Locks of this process and how many blocks use each: a run within a command re-enters it."""


@contextmanager
def claim_home(home: Path, *, wait_s: float = 0.0) -> Iterator["HomeClaim"]:
    """Hold the home for the length of the block.

    Parameters
    ----------
    home : Path
        Existing folder.
    wait_s : float
        Seconds to wait for another process that holds it.

    Raises
    ------
    HomeBusy
        If another process still holds it; the message names its run.
    """
    path = home / ".run.lock"
    if path in _held:  # by this process
        yield HomeClaim(path)
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, path, time.monotonic() + wait_s)
        _held[path] = descriptor
        yield HomeClaim(path)
    finally:
        _held.pop(path, None)
        os.close(descriptor)


class HomeClaim:
    """A held lock.

    Parameters
    ----------
    path : Path
        The lock's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def last_run(self) -> str | None:
        """Return the run that held the home last, None where none did."""
        return self._path.read_text().strip() or None

    def name_run(self, run_id: str) -> None:
        """Say which run holds the home now."""
        self._path.write_text(run_id)


def holder(home: Path) -> str | None:
    """Return the run that holds the home at this moment, None where it is free."""
    path = home / ".run.lock"
    if not path.exists():
        return None
    try:
        with claim_home(home):
            return None
    except HomeBusy:
        return path.read_text().strip() or "unnamed"


def _lock(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                run = path.read_text().strip() or "another process"
                raise HomeBusy(
                    f"run {run} is active on {path.parent}: wait for it, or end it in the UI"
                ) from None
            time.sleep(_PAUSE_S)
        else:
            return
