"""Who was champion: read from the log of promotions, where there is one."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_HAS_LOG_SQL = "SELECT 1 FROM information_schema.tables WHERE table_name = 'promotions'"
_CHANGES_SQL = (
    "SELECT action, challenger, champion FROM promotions "
    "WHERE action IN ('promoted', 'rolled back') ORDER BY number"
)


def past_champions(connection: "DuckDBPyConnection", count: int) -> tuple[str, ...]:
    """Return the versions that a rollback, and those after it, would give the place to.

    Parameters
    ----------
    connection : DuckDBPyConnection
        To the warehouse; may be read-only.
    count : int
        How many champions before the present one, 0 or more.

    Returns
    -------
    tuple of str
        The present champion first, then those before it; none without a log.
    """
    if not connection.execute(_HAS_LOG_SQL).fetchall():
        return ()
    changes = connection.execute(_CHANGES_SQL).fetchall()
    return tuple(reversed(reigns(changes)[-(count + 1) :]))


def reigns(changes: Iterable[tuple[str, str, str | None]]) -> list[str]:
    """Return the champions that are left by some changes, the present one last.

    Parameters
    ----------
    changes : iterable of (action, challenger, champion)
        Rows of the log, oldest first; a refusal changes nothing.
    """
    left: list[str] = []
    for action, challenger, champion in changes:
        if action == "promoted":
            if champion is not None and champion not in left[-1:]:
                left.append(champion)  # since before the log, or moved by hand
            left.append(challenger)
        elif action == "rolled back" and left:
            left.pop()
    return left
