"""The record of promotions, refusals and rollbacks.

A row is stored before the alias moves, so the log never lacks what the registry shows. Where a
process was killed in between, the next settlement or rollback moves the alias (`rollback`).
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flash_pipeline.evaluation.contest import Contest
from flash_pipeline.evaluation.entrants import Contestant
from flash_pipeline.evaluation.gate import GateRules, HeldContest
from flash_pipeline.evaluation.promotion import DEFAULT_RULES, Decision, History
from flash_pipeline.storage.warehouse import has_table, transaction

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from flash_pipeline.training.tracking import Registry

PROMOTIONS_TABLE = "promotions"
"""One row per decision, oldest first by `number`."""

PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled back"

PROMOTIONS_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("decided_at", pa.int64(), nullable=False),
        pa.field("who", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("challenger", pa.string(), nullable=False),
        pa.field("champion", pa.string()),
        pa.field("forced", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("made_at", pa.int64()),
        pa.field("first_made_at", pa.int64()),
        pa.field("last_made_at", pa.int64()),
        pa.field("dates", pa.int32()),
        pa.field("level", pa.float64(), nullable=False),
        pa.field("net_return_difference", pa.float64()),
        pa.field("lower", pa.float64()),
        pa.field("p_value", pa.float64()),
        pa.field("figures", pa.string(), nullable=False),
    ],
    metadata={
        "number": "1, 2, 3 in the order of the decisions",
        "decided_at": "ms since the epoch, UTC",
        "who": "person, or the run that decided",
        "action": f"{PROMOTED}, {REFUSED} or {ROLLED_BACK}",
        "challenger": "version asked about; of a rollback the restored one",
        "champion": "version that held the alias before; null: none",
        "forced": "whether a person overrode the comparison",
        "made_at": "newest bar of the contest, ms since the epoch, UTC; null without one",
        "first_made_at, last_made_at": "dates of the contest, ms since the epoch, UTC",
        "dates": "how many dates the contest has",
        "level": "spent by the comparison; 0 where none was made",
        "net_return_difference": "mean log growth per bar after costs, challenger less champion",
        "lower": "its one-sided lower bound at the level",
        "p_value": "probability of so large a difference between two that are equally good",
        "figures": "JSON: both contestants, every comparison, the rules, the hash of the terms",
    },
)
"""Columns of the log."""

_SQL_TYPES = {"int32": "INTEGER", "int64": "BIGINT", "string": "VARCHAR", "bool": "BOOLEAN"}

_CREATE_SQL = (
    f"CREATE TABLE IF NOT EXISTS {PROMOTIONS_TABLE} ("
    + ", ".join(
        f"{each.name} {_SQL_TYPES.get(str(each.type), str(each.type))}"
        f"{'' if each.nullable else ' NOT NULL'}"
        for each in PROMOTIONS_SCHEMA
    )
    + ")"
)


def settle(
    registry: "Registry",
    connection: "DuckDBPyConnection",
    contest: Contest,
    decision: Decision,
    champion_version: str | None,
    *,
    who: str,
    decided_at: int,
) -> bool:
    """Record a decision and do what it says: move the alias, tag the challenger.

    Parameters
    ----------
    champion_version : str or None
        Version that held the alias when it was decided; None where there was none.
    who : str
        A person's name, or the id of the run that decided.
    decided_at : int
        Now, ms since the epoch.

    Returns
    -------
    bool
        Whether a row was added. A look at the champion itself is no decision; the same decision
        on the same contest, on the same terms and by the same rules, is one as long as no other
        change of champion lies between.
    """
    # Here and not above: the log is read without MLflow, whose import takes seconds.
    from flash_pipeline.training.tracking import CHAMPION, RIVAL_TAG

    added = _record(connection, contest, decision, champion_version, who=who, decided_at=decided_at)
    version = contest.challenger.version
    if decision.promoted:
        registry.point(CHAMPION, version)
        registry.tag(version, {RIVAL_TAG: champion_version or ""})
    if champion_version != version:
        registry.tag(version, {"promotion": decision.reason})
    return added


def _record(
    connection: "DuckDBPyConnection",
    contest: Contest,
    decision: Decision,
    champion_version: str | None,
    *,
    who: str,
    decided_at: int,
) -> bool:
    """Add a decision to the log, and return whether it is a new one: see `settle`."""
    if champion_version == contest.challenger.version:
        return False
    first = next(iter(decision.comparisons), None)
    figures = _figures(contest, decision)
    row = {
        "decided_at": decided_at,
        "who": who,
        "action": PROMOTED if decision.promoted else REFUSED,
        "challenger": contest.challenger.version,
        "champion": champion_version,
        "forced": decision.forced,
        "reason": decision.reason,
        "made_at": contest.made_at,
        "first_made_at": contest.first_made_at,
        "last_made_at": contest.last_made_at,
        "dates": contest.anchors,
        "level": decision.level,
        "net_return_difference": None if first is None else first.difference,
        "lower": None if first is None else first.lower,
        "p_value": None if first is None else first.p_value,
        "figures": figures,
    }
    with transaction(connection):
        connection.execute(_CREATE_SQL)
        alike = connection.execute(
            _REPEATED_SQL, {name: row[name] for name in ("action", *_KEY)}
        ).fetchall()
        if any(_identity(theirs) == _identity(figures) for (theirs,) in alike):
            return False
        insert_row(connection, row)
    return True


def read_promotions(connection: "DuckDBPyConnection", last: int | None = None) -> pa.Table:
    """Return the log, oldest first, as `PROMOTIONS_SCHEMA`; no rows before the first decision.

    The connection may be read-only.

    Parameters
    ----------
    last : int or None
        Newest rows only, at least 1; None for all of them.
    """
    columns = ", ".join(PROMOTIONS_SCHEMA.names)
    return log_rows(connection, columns, last).cast(PROMOTIONS_SCHEMA)


def read_history(
    connection: "DuckDBPyConnection", contest: Contest, rules: GateRules = DEFAULT_RULES
) -> History:
    """Return what earlier decisions leave for that on a contest.

    Of a contest that was compared before, on the same terms and by the same rules, only what came
    before it counts: a repeated decision is the same. On other terms it is another look at the
    same dates, and the first one counts.
    """
    rows = log_rows(
        connection,
        "action, made_at, challenger, champion, first_made_at, last_made_at, level, figures",
    ).to_pylist()
    mine = (contest.made_at, contest.challenger.version, contest.rival, contest.terms)
    looks = [row for row in rows if row["level"] > 0]
    own = [_look(row) == (*mine, asdict(rules)) for row in looks]
    earlier = looks[: own.index(True)] if any(own) else looks
    held = tuple(
        HeldContest(row["first_made_at"], row["last_made_at"], row["level"]) for row in earlier
    )
    withdrawn: set[str] = set()
    for row in rows:
        if row["action"] == ROLLED_BACK:
            withdrawn.add(row["champion"])
        if row["action"] in (PROMOTED, ROLLED_BACK):
            withdrawn.discard(row["challenger"])
    return History(held, frozenset(withdrawn))


def log_rows(connection: "DuckDBPyConnection", columns: str, last: int | None = None) -> pa.Table:
    """Return some columns of the log, oldest row first; see `read_promotions`."""
    if not has_table(connection, PROMOTIONS_TABLE):
        names = columns.split(", ")
        return pa.schema([PROMOTIONS_SCHEMA.field(name) for name in names]).empty_table()
    return connection.sql(
        f"SELECT {columns} FROM (FROM {PROMOTIONS_TABLE} ORDER BY number DESC LIMIT $last) "
        "ORDER BY number",
        params={"last": last},
    ).to_arrow_table()


def insert_row(connection: "DuckDBPyConnection", row: dict[str, Any]) -> None:
    """Add a row to the existing table, numbered after the newest."""
    names = ", ".join(row)
    connection.execute(
        f"INSERT INTO {PROMOTIONS_TABLE} (number, {names}) "
        f"SELECT coalesce(max(number), 0) + 1, {', '.join(f'${name}' for name in row)} "
        f"FROM {PROMOTIONS_TABLE}",
        row,
    )


def _figures(contest: Contest, decision: Decision) -> str:
    values = {
        "challenger": _summary(contest.challenger),
        "champion": None if contest.champion is None else _summary(contest.champion),
        "comparisons": [asdict(each) for each in decision.comparisons],
        "rules": None if decision.rules is None else asdict(decision.rules),
        "terms": contest.terms,
    }
    return json.dumps(values, sort_keys=True)


def _summary(contestant: Contestant) -> dict[str, Any]:
    quality = {k: v if v == v else None for k, v in contestant.quality.items()}
    loss = contestant.loss if contestant.loss == contestant.loss else None
    return {
        "version": contestant.version,
        "head": contestant.head,
        "loss": loss,
        "quality": quality,
        "metrics": contestant.metrics.as_json(),
    }


def _identity(figures: str) -> tuple[Any, Any]:
    """Return the terms and rules of a row; None for each that an older row does not tell."""
    told = json.loads(figures)
    return told.get("terms"), told.get("rules")


def _look(row: dict[str, Any]) -> tuple[Any, ...]:
    return (*(row[name] for name in _KEY), *_identity(row["figures"]))


_KEY = ("made_at", "challenger", "champion")

# Rows of the present reign: since the last change of champion, that change included.
_REPEATED_SQL = f"""
    SELECT figures FROM {PROMOTIONS_TABLE}
    WHERE action = $action AND made_at = $made_at AND challenger = $challenger
        AND champion IS NOT DISTINCT FROM $champion
        AND number >= (
            SELECT coalesce(max(number), 0) FROM {PROMOTIONS_TABLE} WHERE action != '{REFUSED}')
"""
