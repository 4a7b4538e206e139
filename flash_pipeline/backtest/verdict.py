"""A verdict in plain words, cautious by design."""

import math
from dataclasses import dataclass
from typing import Literal

from flash_pipeline.backtest.metrics import Metrics

T_THRESHOLD = 2.0
"""Size of the t-statistic below which a mean return is not told apart from zero."""

Outcome = Literal[
    "ruin", "no_position", "no_evidence", "loss", "behind_buy_and_hold", "some_evidence"
]


@dataclass(frozen=True)
class Verdict:
    """What a backtest shows, for people and for machines."""

    outcome: Outcome
    """One of the outcomes, for machines."""
    headline: str
    """A few words that stand alone."""
    detail: str
    """Why, with the numbers, and what it does not show."""


HEADLINES: dict[Outcome, str] = {
    "ruin": "The account was lost.",
    "no_position": "No position was taken.",
    "no_evidence": "No evidence of an edge.",
    "loss": "Evidence of a loss.",
    "behind_buy_and_hold": "No better than buy and hold, or cash.",
    "some_evidence": "Some evidence of an edge in this period.",
}
"""The headline of each outcome."""


def judge(strategy: Metrics, benchmark: Metrics, *, synthetic: bool) -> Verdict:
    """Say what a backtest shows, by its t-statistic and its return beside buy and hold.

    Parameters
    ----------
    strategy, benchmark : Metrics
        Of the strategy and of buying and holding over the same bars, both net of costs.
    synthetic : bool
        Whether the market was simulated, which the detail then says.

    Returns
    -------
    Verdict
        Positive only if the mean net return is at least `T_THRESHOLD` standard errors above
        zero; `some_evidence` only if the total return beats buy and hold, and cash, as well.
        A t-statistic that is not defined counts as no evidence.
    """
    outcome = _outcome(strategy, benchmark)
    sentences = [
        f"The strategy returned {strategy.total_return:+.2%} after costs, "
        f"buy and hold {benchmark.total_return:+.2%}.",
        _reason(outcome, strategy),
    ]
    if synthetic:
        sentences.append("The market was synthetic: this says nothing about a real one.")
    return Verdict(outcome, HEADLINES[outcome], " ".join(sentences))


def _outcome(strategy: Metrics, benchmark: Metrics) -> Outcome:
    if strategy.total_return <= -1:
        return "ruin"
    if strategy.time_in_market == 0:
        return "no_position"
    if math.isnan(strategy.t_statistic) or abs(strategy.t_statistic) < T_THRESHOLD:
        return "no_evidence"
    if strategy.t_statistic < 0:
        return "loss"
    if strategy.total_return <= max(benchmark.total_return, 0.0):
        return "behind_buy_and_hold"
    return "some_evidence"


def _reason(outcome: Outcome, strategy: Metrics) -> str:
    t = f"t = {strategy.t_statistic:.2f} over {strategy.n_bars:,} bars"
    reasons: dict[Outcome, str] = {
        "ruin": "The equity reached zero and the simulation stopped there.",
        "no_position": "Without a position there is nothing to judge.",
        "no_evidence": f"Its mean return per bar cannot be told apart from zero ({t}; a size of "
        f"at least {T_THRESHOLD:g} would be asked).",
        "loss": f"Its mean return per bar is below zero by more than chance would explain ({t}).",
        "behind_buy_and_hold": f"Its mean return per bar is above zero ({t}), yet buying "
        "and holding, or cash, paid as much without a model.",
        "some_evidence": f"Its mean return per bar is above zero ({t}). One period is one "
        "draw: about one worthless strategy in forty looks this good by luck, and more of them "
        "if this one was chosen among several.",
    }
    return reasons[outcome]
