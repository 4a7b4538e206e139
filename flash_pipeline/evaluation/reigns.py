"""Who was champion: read from the log of promotions, where there is one."""

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
    reigns: list[str] = []
    for action, challenger, champion in connection.execute(_CHANGES_SQL).fetchall():
        if action == "promoted":
            if champion is not None and champion not in reigns[-1:]:
                reigns.append(champion)  # since before the log, or moved by hand
            reigns.append(challenger)
        elif reigns:
            reigns.pop()
    return tuple(reversed(reigns[-(count + 1) :]))
