"""The way back: the champion before the present one, and changes that were cut off."""

from typing import TYPE_CHECKING, Any

from flash_pipeline.errors import ModelNotRegistered
from flash_pipeline.evaluation.promotion_log import (
    PROMOTED,
    REFUSED,
    ROLLED_BACK,
    insert_row,
    log_rows,
)
from flash_pipeline.storage.warehouse import transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from flash_pipeline.training.tracking import RegisteredModel, Registry


def roll_back(
    registry: "Registry",
    connection: "DuckDBPyConnection",
    *,
    who: str,
    decided_at: int,
    reason: str = "",
) -> "RegisteredModel":
    """Give the place back to the champion before the present one.

    The version that loses it is promoted again by force only: its contest stands, and the next
    run would find it better once more.

    Parameters
    ----------
    who : str
        A person's name.
    decided_at : int
        Now, ms since the epoch.
    reason : str
        Why, for the log.

    Returns
    -------
    RegisteredModel
        The champion now.

    Raises
    ------
    ModelNotRegistered
        If there is no champion, the log does not say how it became one, it had no predecessor, or
        the predecessor is gone from the registry. Nothing changes.
    BundleMismatch
        If the predecessor cannot be read any more. Nothing changes.

    Notes
    -----
    A rollback that was cut off before the alias moved is finished, and no further step is taken.
    """
    from flash_pipeline.training.tracking import CHAMPION

    finished = finish_move(registry, connection)
    if finished == ROLLED_BACK:  # what was asked for, when it was cut off
        return registry.require(CHAMPION)
    present = registry.require(CHAMPION).version
    previous = _predecessor(
        log_rows(connection, "action, challenger, champion").to_pylist(), present
    )
    restored = registry.version(previous)
    restored.bundle.build_all()
    words = f"rolled back from version {present} to version {previous}"
    with transaction(connection):
        insert_row(
            connection,
            {
                "decided_at": decided_at,
                "who": who,
                "action": ROLLED_BACK,
                "challenger": previous,
                "champion": present,
                "forced": True,
                "reason": f"{words}: {reason}" if reason else words,
                "level": 0.0,
                "figures": "{}",
            },
        )
    # After the row is stored: see `finish_move`.
    registry.point(CHAMPION, previous)
    registry.tag(present, {"promotion": words})
    return restored


def finish_move(registry: "Registry", connection: "DuckDBPyConnection") -> str | None:
    """Move the alias where the newest change in the log was cut off before it did.

    It was where the alias still stands at the champion from before that change. An alias that
    was moved anywhere else, or taken away, by hand stays so; the first champion is decided anew.

    Returns
    -------
    str or None
        `PROMOTED` or `ROLLED_BACK`, of the change that was finished; None where there was none.
    """
    from flash_pipeline.training.tracking import CHAMPION, RIVAL_TAG

    rows = log_rows(connection, "action, challenger, champion, reason").to_pylist()
    last = next((row for row in reversed(rows) if row["action"] != REFUSED), None)
    if last is None:
        return None
    holder = registry.at(CHAMPION)
    if holder is None or holder.version != last["champion"]:
        return None
    try:
        registry.version(last["challenger"])
    except ModelNotRegistered:  # deleted since: there is nothing to move to
        return None
    registry.point(CHAMPION, last["challenger"])
    if last["action"] == PROMOTED:
        registry.tag(last["challenger"], {RIVAL_TAG: holder.version, "promotion": last["reason"]})
    else:
        registry.tag(last["champion"], {"promotion": last["reason"]})
    return str(last["action"])


def _predecessor(rows: list[dict[str, Any]], present: str) -> str:
    """Return the champion before the present one, by walking the log from its first row."""
    reigns: list[str] = []
    for row in rows:
        if row["action"] == PROMOTED:
            known = reigns[-1] if reigns else None
            if row["champion"] is not None and row["champion"] != known:
                reigns.append(row["champion"])  # since before the log, or moved by hand
            reigns.append(row["challenger"])
        elif row["action"] == ROLLED_BACK:
            reigns.pop()
    if not reigns or reigns[-1] != present:
        raise ModelNotRegistered(
            f"the log of promotions does not end with champion {present} but with "
            f"{reigns[-1] if reigns else 'none'}: move the alias by hand"
        )
    if len(reigns) < 2:
        raise ModelNotRegistered(f"champion {present} had no predecessor to roll back to")
    return reigns[-2]
