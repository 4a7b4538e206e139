"""A verdict in plain words, cautious by design."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flash_pipeline.backtest.metrics import FLAT, Metrics
from flash_pipeline.backtest.result import BacktestResult

T_THRESHOLD = 2.0
"""Size of the t-statistic below which a mean return is not told apart from zero."""

DEFLATED_THRESHOLD = 0.95
"""Deflated Sharpe ratio from which the number of trials no longer explains a result."""

Outcome = Literal[
    "ruin",
    "no_position",
    "no_evidence",
    "loss",
    "behind_buy_and_hold",
    "behind_baseline",
    "many_trials",
    "some_evidence",
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


@dataclass(frozen=True)
class Rivals:
    """What a strategy is held against beside buying and holding."""

    ahead_t: float | None = None
    """t-statistic of the bar returns less those of buying and holding, of `ahead_of`."""
    baselines: Mapping[str, Metrics] | None = None
    """Measures of simpler models on the same dates and costs, by name."""
    deflated_sharpe: float | None = None
    """Probability of a Sharpe ratio above zero after all trials; None if they are not known."""


HEADLINES: dict[Outcome, str] = {
    "ruin": "The account was lost.",
    "no_position": "No position was taken.",
    "no_evidence": "No evidence of an edge.",
    "loss": "Evidence of a loss.",
    "behind_buy_and_hold": "No better than buy and hold, or cash.",
    "behind_baseline": "No better than a simpler model.",
    "many_trials": "No evidence beyond what so many trials show by luck.",
    "some_evidence": "Some evidence of an edge in this period.",
}
"""The headline of each outcome."""


def ahead_of(result: BacktestResult, benchmark: BacktestResult) -> float:
    """Return the t-statistic of the difference of the bar returns of two results.

    Returns
    -------
    float
        `mean(d) / (std(d) / sqrt(T))` with `d = returns - benchmark's`; NaN without a difference.
    """
    difference_T = result.returns_T - benchmark.returns_T
    deviation = float(np.std(difference_T, ddof=1))
    if deviation <= FLAT:
        return math.nan
    return float(difference_T.mean()) / deviation * math.sqrt(len(difference_T))


def judge(
    strategy: Metrics, benchmark: Metrics, *, synthetic: bool, rivals: Rivals | None = None
) -> Verdict:
    """Say what a backtest shows, by its t-statistic and its return beside simpler ways.

    Parameters
    ----------
    strategy, benchmark : Metrics
        Of the strategy and of buying and holding over the same bars, both net of costs.
    synthetic : bool
        Whether the market was simulated, which the detail then says.
    rivals : Rivals or None
        What else it is held against, where known.

    Returns
    -------
    Verdict
        Positive only if the mean net return is at least `T_THRESHOLD` standard errors above
        zero; `some_evidence` only if the total return beats buy and hold, cash and every
        baseline as well, and the number of trials does not explain it.
        A t-statistic that is not defined counts as no evidence.
    """
    rivals = rivals or Rivals()
    outcome = _outcome(strategy, benchmark, rivals)
    sentences = [
        f"The strategy returned {strategy.total_return_fraction:+.2%} after costs, "
        f"buy and hold {benchmark.total_return_fraction:+.2%}.",
        _reason(outcome, strategy, rivals),
        _beside_buy_and_hold(rivals.ahead_t),
    ]
    if synthetic:
        sentences.append("The market was synthetic: this says nothing about a real one.")
    return Verdict(outcome, HEADLINES[outcome], " ".join(filter(None, sentences)))


def _outcome(strategy: Metrics, benchmark: Metrics, rivals: Rivals) -> Outcome:
    t, total = strategy.mean_return_t, strategy.total_return_fraction
    best = _best(rivals)
    deflated = rivals.deflated_sharpe
    rules: list[tuple[bool, Outcome]] = [
        (total <= -1, "ruin"),
        (strategy.time_in_market_fraction == 0, "no_position"),
        (math.isnan(t) or abs(t) < T_THRESHOLD, "no_evidence"),
        (t < 0, "loss"),
        (total <= max(benchmark.total_return_fraction, 0.0), "behind_buy_and_hold"),
        (best is not None and total <= best[1].total_return_fraction, "behind_baseline"),
        (deflated is not None and not deflated >= DEFLATED_THRESHOLD, "many_trials"),
    ]
    return next((outcome for holds, outcome in rules if holds), "some_evidence")


def _best(rivals: Rivals) -> tuple[str, Metrics] | None:
    baselines = rivals.baselines or {}
    return max(baselines.items(), key=lambda b: b[1].total_return_fraction, default=None)


def _reason(outcome: Outcome, strategy: Metrics, rivals: Rivals) -> str:
    t = f"t = {strategy.mean_return_t:.2f} over {strategy.bars_count:,} bars"
    name, best = _best(rivals) or ("", None)
    reached = "" if best is None else f"{best.total_return_fraction:+.2%}"
    deflated = rivals.deflated_sharpe
    reasons: dict[Outcome, str] = {
        "ruin": "The margin was gone and the simulation stopped there.",
        "no_position": "Without a position there is nothing to judge.",
        "no_evidence": f"Its mean return per bar cannot be told apart from zero ({t}; a size of "
        f"at least {T_THRESHOLD:g} would be asked).",
        "loss": f"Its mean return per bar is below zero by more than chance would explain ({t}).",
        "behind_buy_and_hold": f"Its mean return per bar is above zero ({t}), yet buying "
        "and holding, or cash, paid as much without a model.",
        "behind_baseline": f"Its mean return per bar is above zero ({t}), yet the baseline {name} "
        f"came to {reached} on the same dates and costs.",
        "many_trials": f"Its mean return per bar is above zero ({t}), yet after all that was tried "
        f"the probability of a Sharpe ratio above zero is {deflated or 0:.1%}: at least "
        f"{DEFLATED_THRESHOLD:.0%} would be asked.",
        "some_evidence": f"Its mean return per bar is above zero ({t}). One period is one "
        "draw: about one worthless strategy in forty looks this good by luck, and more of them "
        "if this one was chosen among several.",
    }
    return reasons[outcome]


def _beside_buy_and_hold(ahead_t: float | None) -> str:
    if ahead_t is None or math.isnan(ahead_t):
        return ""
    t = f"bar by bar, t of the difference {ahead_t:.2f}"
    if abs(ahead_t) < T_THRESHOLD:
        return f"There is no evidence that it beats buy and hold ({t})."
    which = "beats" if ahead_t > 0 else "falls behind"
    return f"It {which} buy and hold by more than chance would explain ({t})."
