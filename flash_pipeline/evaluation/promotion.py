"""Whether the challenger becomes the champion."""

from dataclasses import dataclass

from flash_pipeline.evaluation.contest import Contest


@dataclass(frozen=True)
class Decision:
    """A promotion or a refusal, with its reason in words."""

    promoted: bool
    """Whether the challenger becomes the champion."""
    reason: str
    """Why, with the figures."""
    forced: bool = False
    """Whether a person overrode the comparison."""


def decide_promotion(
    contest: Contest, champion_version: str | None, *, force: bool = False
) -> Decision:
    """Decide by the contest: a champion is replaced only by a better one on the same dates.

    A champion that cannot predict from the windows at all, since the configuration has changed,
    is replaced too: there would be no forecast otherwise. Models of one head are compared by
    their loss, models of different heads by the net return of their backtests.

    Parameters
    ----------
    champion_version : str or None
        Version that holds the alias now; None where there is none, which promotes any challenger.
    force : bool
        Promote whatever the figures say; the decision records it.
    """
    challenger, champion = contest.challenger, contest.champion
    if champion_version is None:
        return Decision(True, "there was no champion")
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
        return Decision(True, f"{contest.champion_absent}: it cannot predict from these windows")
    if champion is None:
        return Decision(
            False,
            f"not comparable: {contest.champion_absent}; promote by hand with force if wanted",
        )
    if challenger.head == champion.head:
        better = challenger.loss < champion.loss
        figures = f"loss {challenger.loss:.6f} against {champion.loss:.6f}"
    else:
        gains = challenger.metrics.total_return, champion.metrics.total_return
        better = gains[0] > gains[1]
        figures = f"net return {gains[0]:+.2%} against {gains[1]:+.2%}"
    verb = "better" if better else "not better"
    return Decision(
        better,
        f"version {challenger.version} is {verb} than champion {champion.version} over the same "
        f"{contest.anchors} dates: {figures}",
    )
