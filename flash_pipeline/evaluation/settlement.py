"""A contest settled: decided by what earlier decisions left, audited, recorded and acted upon."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from flash_pipeline.errors import ModelNotRegistered, NotEnoughHistory
from flash_pipeline.evaluation.audits import audit_registered
from flash_pipeline.evaluation.contest import Contest
from flash_pipeline.evaluation.gate import GateRules
from flash_pipeline.evaluation.promotion import BY_HAND, DEFAULT_RULES, Decision, decide_promotion
from flash_pipeline.evaluation.promotion_log import read_history, read_promotions, settle
from flash_pipeline.evaluation.rollback import finish_move
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse

if TYPE_CHECKING:
    from flash_pipeline.training.tracking import RegisteredModel

REQUIRED = ("future", "warm-up", "scaling", "labels", "live")
"""Audits without which no version is promoted unless by hand. `shift` is not among them: a model
without a position has nothing to move."""

_SHOWN = 10


@dataclass(frozen=True)
class Settlement:
    """What became of a contest."""

    contest: Contest
    """The contest."""
    decision: Decision
    """What was decided on it."""
    champion: str
    """Version that makes the forecasts from now on."""
    promotions: pa.Table
    """Newest rows of the log, oldest first."""


def settle_contest(
    settings: Settings,
    *,
    who: str,
    decided_at: int,
    force: bool = False,
    rules: GateRules = DEFAULT_RULES,
) -> Settlement:
    """Decide on the newest contest, write the decision into the log, and do what it says.

    Before the gate promotes a version, its leaks are audited: one that knows of the future, or
    that cannot be audited, is refused whatever it earned. A forced promotion is not audited.

    Parameters
    ----------
    who : str
        A person's name, or the run that decides.
    decided_at : int
        Now, ms since the epoch.
    force : bool
        Promote the challenger whatever the figures say; recorded.
    rules : GateRules
        What it takes to be promoted.

    Raises
    ------
    SchemaMismatch
        If no contest is stored.
    InvalidInput
        If its tracks are not of the same symbols, horizon and dates; nothing is promoted.
    ModelNotRegistered
        If there is no champion, and the challenger is refused; the refusal is in the log.
    """
    # Here and not above: MLflow's import takes seconds.
    from flash_pipeline.training.tracking import CHAMPION, Registry

    registry, contest = Registry(settings), Contest.load(settings.contest)
    with open_warehouse(settings.warehouse) as connection:
        finish_move(registry, connection)
        holder = registry.at(CHAMPION)
        before = holder.version if holder is not None else None
        history = read_history(connection, contest, rules)
    decision = decide_promotion(contest, before, force=force, rules=rules, history=history)
    if decision.promoted and not decision.forced:
        challenger = registry.version(contest.challenger.version)
        decision = _unless_it_leaks(settings, challenger, decision)
    with open_warehouse(settings.warehouse) as connection:
        settle(registry, connection, contest, decision, before, who=who, decided_at=decided_at)
        promotions = read_promotions(connection, _SHOWN)
    champion = contest.challenger.version if decision.promoted else before
    if champion is None:
        raise ModelNotRegistered(f"there is no champion: {decision.reason}")
    return Settlement(contest, decision, champion, promotions)


def _unless_it_leaks(
    settings: Settings, challenger: "RegisteredModel", decision: Decision
) -> Decision:
    name = f"version {challenger.version}"
    try:
        results = audit_registered(settings, challenger, train=False)
    except NotEnoughHistory as error:
        reason = f"{name} could not be audited for leaks ({error}); {BY_HAND}"
        return replace(decision, promoted=False, reason=reason)
    leaks = [f"{each.audit}: {each.words}" for each in results if each.failed]
    doubts = [
        f"{each.audit}: {each.words}"
        for each in results
        if not each.checked and each.audit in REQUIRED
    ]
    if leaks:
        reason = f"{name} fails its leak audits ({'; '.join(leaks)}); {BY_HAND}"
    elif doubts:
        reason = f"{name} could not be audited for leaks ({'; '.join(doubts)}); {BY_HAND}"
    else:
        return decision
    return replace(decision, promoted=False, reason=reason)
