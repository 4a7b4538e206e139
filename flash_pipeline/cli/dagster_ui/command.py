"""The command that starts a module of Dagster's with the guard before its UI."""

import sys
from collections.abc import Sequence

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
"""What a browser of this machine, or at the other end of a tunnel, calls the UI."""

WEBSERVER = "dagster_webserver"
"""The module that serves the UI."""


def guarded_command(words: Sequence[str], names: Sequence[str] = ()) -> list[str]:
    """Return `python -m` with some words, `dagster dev` or `dagster_webserver`, guarded.

    Parameters
    ----------
    words : sequence of str
        Module and arguments.
    names : sequence of str
        Hosts that the UI is called by besides those of loopback.
    """
    allowed = [word for name in names for word in ("--allow-host", name)]
    return [sys.executable, "-m", __package__, *allowed, "--", *words]
