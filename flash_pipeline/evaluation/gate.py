"""The promotion gate: whether the challenger is better, or was lucky.

    challenger ─┐   on the same dates,     difference     resampled      lower bound
    champion   ─┴─► net of costs       ──► date by date ─► in blocks  ──► above 0: favoured

The difference is that of the log growth of the accounts, log(1 + net return) of a bar, so that its
mean is above 0 where the challenger's account ends above the rival's; a mean of simple returns
would favour accounts that swing and shrink. It is paired: what moves both accounts cancels. It is
resampled in blocks of at least two horizons, since a position is held for one. Growth decides; an
account that was liquidated never wins; the loss of the forecasts,
where both are measured alike, may only object. The challenger must be favoured over the champion
and over the best baseline, each at the level: a union of nulls, all of which have to be rejected,
needs no correction (Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling,
Technometrics 24(4)).

**Repeated selection.** Challengers come again and again and meet the champion on nearly the same
dates: at 5 % each, one in twenty of the worthless would get through. So a contest spends the
level of its dates. What is left for a contest is

    left = level - max over its dates of (sum of the levels that earlier contests spent there)

and it spends `spent_share` of that. So no date ever holds more than `level` in sum, which bounds
the probability of any false promotion among all the contests that use that date by `level`,
however they depend on one another (alpha spending: Tian and Ramdas 2021, Online control of the
familywise error rate, section 2; Lan and DeMets 1983, Biometrika 70(3)). The level comes back with
dates that were never used, and with them alone: disjoint dates are separate claims, so over years
the bound holds for each span of a contest's length, not for all of them together.

A contest that spent all would leave nothing for those that overlap it, and one of them would be
held per span; half of what is left gives the first 2.5 % of 5 %, the next 1.25 %, and in the long
run each of ten contests per span some 0.45 %. So that an hourly training does not spend the level
on one fresh date at a time, no contest is held before `least_new_share` of the dates is new since
the last, nor at less than `least_level`, which hardly anything could pass: asking without looking
costs nothing.

Shape letters: T dates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.evaluation.bootstrap import mean_deviations
from flash_pipeline.evaluation.statistics import block_length
from flash_pipeline.evaluation.tracks import Track, Tracks
from flash_pipeline.market import iso_utc

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GateRules:
    """What it takes to be promoted.

    Raises
    ------
    InvalidConfig
        If a value is out of its bounds.
    """

    level: float = 0.05
    """One-sided probability of promoting any challenger that is no better, over all contests that
    share a date, between 0 and 0.5."""
    spent_share: float = 0.5
    """Share of the level left that a contest spends, above 0 and at most 1."""
    least_level: float = 0.001
    """Level below which no contest is held, 0 or more."""
    block_horizons: float = 2.0
    """Least mean length of a bootstrap block in horizons, at least 2; see `block_length`."""
    resamples: int = 10_000
    """Of the bootstrap, at least 100: p-values are multiples of 1 / (resamples + 1)."""
    least_new_share: float = 0.1
    """Share of the dates that no earlier contest may have used, 0 to 1."""
    seed: int = 58
    """Of the resamples, 0 or more: the same contest is decided the same way each time."""

    def __post_init__(self) -> None:
        for name, good, expected in (
            ("level", 0 < self.level < 0.5, "a number between 0 and 0.5"),
            ("spent_share", 0 < self.spent_share <= 1, "above 0 and at most 1"),
            ("least_level", self.least_level >= 0, "0 or more"),
            ("block_horizons", self.block_horizons >= 2, "at least 2"),
            ("resamples", self.resamples >= 100, "at least 100"),
            ("least_new_share", 0 <= self.least_new_share <= 1, "0 to 1"),
            ("seed", self.seed >= 0, "0 or more"),
        ):
            if not good:
                raise InvalidConfig(f"{name} is {getattr(self, name)!r}: expected {expected}")


@dataclass(frozen=True)
class Comparison:
    """The challenger against one rival, on the same dates."""

    rival: str
    """Version or name of the other."""
    dates: int
    """Dates compared."""
    difference: float
    """Mean log growth per bar of the challenger's account less the rival's, after costs."""
    lower: float
    """One-sided lower bound of the difference at the level of the test."""
    p_value: float
    """Probability of so large a difference between two that are equally good."""
    loss_difference: float | None
    """Mean loss of the challenger less the rival's, below 0 is better; None if not comparable."""
    loss_p_value: float | None
    """Probability of so much more loss if both forecast equally well; None if not comparable."""
    favoured: bool
    """Whether the growth speaks for the challenger at the level, the loss not against it, and the
    account was not liquidated."""
    liquidated: bool = False
    """Whether the challenger's account was liquidated."""


@dataclass(frozen=True)
class HeldContest:
    """An earlier contest that looked at the figures, and so spent some of the level."""

    first_made_at: int
    """First date, ms since the epoch."""
    last_made_at: int
    """Last date, ms since the epoch."""
    level: float
    """Level that it was decided at."""


def pass_gate(tracks: Tracks, level: float, rules: GateRules) -> tuple[Comparison, ...]:
    """Compare the challenger with the champion and with the best baseline.

    Parameters
    ----------
    tracks : Tracks
        All on the same dates.
    level : float
        One-sided, above 0: what `available_level` leaves of that of the rules.

    Returns
    -------
    tuple of Comparison
        First against the champion, where there is one. The challenger passes where every one
        favours it.

    Raises
    ------
    InvalidInput
        As for `compare`; also if there is nobody to compare with.
    """
    rivals = [rival for rival in (tracks.champion, tracks.best_baseline) if rival is not None]
    if not rivals:
        raise InvalidInput(
            f"challenger {tracks.challenger.name} has neither a champion nor a baseline to meet"
        )
    return tuple(compare(tracks.challenger, rival, level, rules) for rival in rivals)


def compare(challenger: Track, rival: Track, level: float, rules: GateRules) -> Comparison:
    """Test whether the challenger's account grew more than a rival's, and its loss is no higher.

    The p-value is the share of mean differences by chance, see `mean_deviations`, that are as
    large as the observed one (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section
    16.4), the observed one counted in.

    Raises
    ------
    InvalidInput
        If the two are of other symbols, another horizon or other dates, a net return is not
        finite, or the dates are fewer than two blocks.
    """
    _require_alike(challenger, rival, rules)
    block = _block(challenger, rules)
    rng = np.random.default_rng(rules.seed)
    gain_T = challenger.growth_T - rival.growth_T
    difference, chance_R = float(gain_T.mean()), _by_chance(gain_T, block, rules, rng)
    p_value = _p_value(chance_R, difference)
    loss_difference = loss_p = None
    if challenger.measured_as and challenger.measured_as == rival.measured_as:
        more_T = challenger.loss_T - rival.loss_T
        more_T = more_T[np.isfinite(more_T)]
        if len(more_T):
            loss_difference = float(more_T.mean())
            loss_p = _p_value(_by_chance(more_T, block, rules, rng), loss_difference)
    objects = loss_p is not None and loss_p < rules.level
    return Comparison(
        rival=rival.name,
        dates=len(gain_T),
        difference=difference,
        lower=difference - float(np.quantile(chance_R, 1 - level)),
        p_value=p_value,
        loss_difference=loss_difference,
        loss_p_value=loss_p,
        favoured=difference > 0 and p_value < level and not objects and not challenger.liquidated,
        liquidated=challenger.liquidated,
    )


def available_level(
    first_made_at: int, last_made_at: int, held: Sequence[HeldContest], rules: GateRules
) -> float:
    """Return the level at which a contest on these dates is decided, 0 or more.

    Parameters
    ----------
    first_made_at, last_made_at : int
        First and last date, ms since the epoch.
    held : sequence of HeldContest
        Those that looked at the figures, this one not among them.
    """
    inside = [each for each in held if _meets(first_made_at, last_made_at, each)]
    # What was spent on a date changes at the first date of a contest only, or else falls.
    tops = [max(first_made_at, each.first_made_at) for each in inside]
    spent = [sum(each.level for each in inside if _meets(top, top, each)) for top in tops]
    return max(0.0, rules.level - max(spent, default=0.0)) * rules.spent_share


def new_share(first_made_at: int, last_made_at: int, held: Sequence[HeldContest]) -> float:
    """Return the share of the dates that no earlier contest looked at, 0 to 1."""
    if first_made_at == last_made_at:
        return float(not any(_meets(first_made_at, last_made_at, each) for each in held))
    used, until = 0, first_made_at
    for each in sorted(held, key=lambda contest: contest.first_made_at):
        begin, end = max(until, each.first_made_at), min(last_made_at, each.last_made_at)
        if end > begin:
            used, until = used + end - begin, end
    return 1 - used / (last_made_at - first_made_at)


def _meets(first: int, last: int, earlier: HeldContest) -> bool:
    return earlier.first_made_at <= last and earlier.last_made_at >= first


def _block(track: Track, rules: GateRules) -> float:
    dates = len(track.made_at_T)
    return max(rules.block_horizons * track.horizon, block_length(track.horizon, dates))


def _by_chance(
    values_T: Floats, block: float, rules: GateRules, rng: np.random.Generator
) -> Floats:
    return mean_deviations(values_T, block=block, resamples=rules.resamples, rng=rng)


def _p_value(deviation_R: Floats, observed: float) -> float:
    return float((1 + (deviation_R >= observed).sum()) / (len(deviation_R) + 1))


def _require_alike(challenger: Track, rival: Track, rules: GateRules) -> None:
    pair = f"challenger {challenger.name} and {rival.name}"
    if challenger.symbols != rival.symbols:
        raise InvalidInput(
            f"{pair} cannot be compared: one is of {', '.join(challenger.symbols)}, the other of "
            f"{', '.join(rival.symbols)}: expected the same symbols in the same order"
        )
    if challenger.horizon != rival.horizon:
        raise InvalidInput(
            f"{pair} cannot be compared: one forecasts {challenger.horizon} bars ahead, the other "
            f"{rival.horizon}: expected the same horizon"
        )
    if not np.array_equal(challenger.made_at_T, rival.made_at_T):
        raise InvalidInput(
            f"{pair} cannot be compared: {len(challenger.made_at_T)} and {len(rival.made_at_T)} "
            "dates that are not the same: expected one set of dates"
        )
    least = 2 * _block(challenger, rules)
    if len(challenger.made_at_T) < least:
        raise InvalidInput(
            f"{pair} share {len(challenger.made_at_T)} dates: expected two blocks, {least:g}"
        )
    for track in (challenger, rival):
        bad_T = ~np.isfinite(track.net_return_T)
        if bad_T.any():
            raise InvalidInput(
                f"the net return of {track.name} at {iso_utc(int(track.made_at_T[bad_T][0]))} is "
                f"{track.net_return_T[bad_T][0]}: expected a finite number"
            )
