"""Whether the challenger becomes the champion."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flash_pipeline.evaluation.contest import Contest
from flash_pipeline.evaluation.gate import (
    Comparison,
    GateRules,
    HeldContest,
    available_level,
    new_share,
    pass_gate,
)
from flash_pipeline.market import iso_utc


@dataclass(frozen=True)
class Decision:
    """A promotion or a refusal, with its reason in words."""

    promoted: bool
    """Whether the challenger becomes the champion."""
    reason: str
    """Why, with the figures."""
    forced: bool = False
    """Whether a person overrode the comparison."""
    level: float = 0.0
    """Level that the comparison spent: 0 where none was made."""
    comparisons: tuple[Comparison, ...] = ()
    """With the champion first and the best baseline; none where none was made."""
    rules: GateRules | None = None
    """What it was compared by; None where it was not."""


@dataclass(frozen=True)
class History:
    """What earlier decisions leave for the next; see `promotion_log.read_history`."""

    held: Sequence[HeldContest] = ()
    """Earlier contests that looked at the figures; the one to be decided is not among them."""
    withdrawn: Collection[str] = ()
    """Versions that a rollback took the place from."""


NO_HISTORY = History()
"""Of a project that has not decided anything yet."""

BY_HAND = "promote it by hand if wanted (flash_pipeline promote)"
"""What a person may do about a refusal: it materializes `champion` with `force`."""

DEFAULT_RULES = GateRules()
"""What it takes to be promoted unless a caller says otherwise."""


def decide_promotion(
    contest: Contest,
    champion_version: str | None,
    *,
    force: bool = False,
    rules: GateRules = DEFAULT_RULES,
    history: History = NO_HISTORY,
) -> Decision:
    """Decide by the contest: a champion is replaced only by a better one on the same dates.

    Better is what `evaluation.gate` favours. A champion of other symbols, another horizon, another
    interval or a longer lookback cannot be compared, so it stays until a person says otherwise.
    One that no configuration can predict with again (of an older format, or trained on the other
    kind of candles) is replaced unmeasured: there would be no forecast otherwise.

    Parameters
    ----------
    champion_version : str or None
        Version that holds the alias now; None where there is none, which promotes any challenger.
    force : bool
        Promote whatever the figures say; the decision records it.
    rules : GateRules
        Level and blocks of the comparison.
    history : History
        What earlier decisions have spent and taken back.

    Raises
    ------
    InvalidInput
        If the tracks of the contest are not of the same symbols, horizon and dates.
    """
    challenger = contest.challenger
    if champion_version is None:
        return Decision(True, "there was no champion; not tested against one", forced=force)
    if champion_version == challenger.version:
        return Decision(False, f"version {challenger.version} is the champion already")
    if force:
        return Decision(True, f"forced over champion {champion_version}", forced=True)
    if contest.rival != champion_version:
        return Decision(
            False,
            f"the contest was against version {contest.rival} and the champion is "
            f"{champion_version} now: materialize backtest_report again",
        )
    if contest.champion_unfit:
        return Decision(True, f"{contest.champion_absent}: it cannot be used any more")
    if contest.champion is None:
        return Decision(
            False,
            f"not comparable: {contest.champion_absent}; {BY_HAND}",
        )
    if challenger.version in history.withdrawn:
        return Decision(
            False,
            f"version {challenger.version} was rolled back from; {BY_HAND}",
        )
    return _by_the_gate(contest, rules, history)


def _by_the_gate(contest: Contest, rules: GateRules, history: History) -> Decision:
    dates = (contest.first_made_at, contest.last_made_at)
    fresh = new_share(*dates, history.held)
    level = available_level(*dates, history.held, rules)
    if fresh < rules.least_new_share or not level or level < rules.least_level:
        return Decision(
            False,
            f"not compared: {fresh:.1%} of the dates to {iso_utc(contest.last_made_at)} are new "
            f"since the last contest and leave a level of {level:.3%}: a comparison is made where "
            f"{rules.least_new_share:.0%} are new and {rules.least_level:.1%} is left",
        )
    comparisons = pass_gate(contest.tracks, level, rules)
    promoted = all(each.favoured for each in comparisons)
    verb = "better" if promoted else "not better"
    against = "; ".join(_in_words(each, rules) for each in comparisons)
    return Decision(
        promoted,
        f"version {contest.challenger.version} is {verb} than champion {contest.rival} and the "
        f"best baseline over the same {contest.anchors} dates at the level {level:.2%}: "
        f"{'its account was liquidated; ' * contest.tracks.challenger.liquidated}{against}",
        level=level,
        comparisons=comparisons,
        rules=rules,
    )


def _in_words(each: Comparison, rules: GateRules) -> str:
    words = (
        f"against {each.rival} {each.difference:+.3e} log growth per bar, lower bound "
        f"{each.lower:+.3e}, p = {each.p_value:.4f}"
    )
    if each.loss_difference is not None and each.loss_p_value is not None:
        objects = " (objects)" if each.loss_p_value < rules.level else ""
        words += f", loss {each.loss_difference:+.6f}, p = {each.loss_p_value:.4f}{objects}"
    return words
