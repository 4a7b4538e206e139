"""The baselines that a challenger meets beside the champion.

Shape letters: N anchors, T bars, S symbols.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import BacktestResult, hold_cohorts, regression_weights
from flash_pipeline.errors import InvalidConfig, ModelError
from flash_pipeline.evaluation.terms import Venue
from flash_pipeline.evaluation.tracks import Track
from flash_pipeline.evaluation.trading import as_live
from flash_pipeline.training.baselines import BASELINES, Baseline
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

NO_POSITION = "no position"
"""Name of the baseline that forecasts nothing and holds nothing."""


@dataclass(frozen=True)
class Rival:
    """A fitted baseline with what it takes to trade it."""

    name: str
    """Name in reports."""
    model: Baseline
    """Predicts the log return over the horizon."""
    scale: float
    """Root mean square of its predictions over the validation range; 0 holds no position."""
    seen_until: int
    """End of the last label that it was fitted or chosen on, ms since the epoch."""


@dataclass(frozen=True)
class Field:
    """The baselines that could be fitted, and the others."""

    rivals: tuple[Rival, ...] = ()
    """Fitted, in the order asked for."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why a baseline is not among them, by name."""

    @property
    def remarks(self) -> tuple[tuple[str, str], ...]:
        """The others, as rows of a report's assumptions."""
        return tuple((f"No baseline {name}", reason) for name, reason in self.absent.items())


def fit_rivals(frame: WindowFrame, split: Split, names: Sequence[str]) -> Field:
    """Fit baselines on the training and validation ranges that the challenger had.

    One that cannot be fitted here, as without the library that it needs, is left out.

    Parameters
    ----------
    names : sequence of str
        Of `training.baselines.BASELINES`.

    Raises
    ------
    InvalidConfig
        If there is no baseline of a name.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise InvalidConfig(
            f"baselines {', '.join(unknown)} are unknown: expected some of {', '.join(BASELINES)}"
        )
    seen_until = int(frame.label_end_N[split.validation_N[-1]])
    rivals, absent = [], {}
    for name in dict.fromkeys(names):
        try:
            model = BASELINES[name].fit(frame, split)
        except ModelError as error:
            absent[name] = str(error)
            continue
        told_NS = model.predict(frame, split.validation_N).value_NS.astype(np.float64)
        scale = float(np.sqrt(np.mean(told_NS**2)))
        rivals.append(Rival(name, model, scale, seen_until))
    return Field(tuple(rivals), absent)


def trade_rival(
    rival: Rival, frame: WindowFrame, venue: Venue, index_N: npt.NDArray[np.int64]
) -> BacktestResult:
    """Simulate a baseline over the dates of a contest, sized as a regression is.

    Parameters
    ----------
    venue : Venue
        Of the bars of the dates.
    index_N : array
        Positions of the dates' windows.
    """
    told = as_live(frame, rival.model.predict(frame, index_N), index_N)
    weights_TS = np.zeros(told.value_NS.shape)
    if rival.scale > 0:
        wide_TS = told.value_NS.astype(np.float64)
        weights_TS = hold_cohorts(regression_weights(wide_TS, rival.scale), frame.horizon)
    return venue.trade(weights_TS)


def rival_track(
    name: str, frame: WindowFrame, index_N: npt.NDArray[np.int64], result: BacktestResult
) -> Track:
    """Return what a baseline earned over the dates of a contest.

    Its losses are left out: the gate compares a challenger's with the champion's alone.
    """
    return _without_losses(name, frame, index_N, result.returns_T)


def no_position(frame: WindowFrame, index_N: npt.NDArray[np.int64]) -> Track:
    """Return the track of an account that never trades."""
    return _without_losses(NO_POSITION, frame, index_N, np.zeros(len(index_N)))


def _without_losses(
    name: str,
    frame: WindowFrame,
    index_N: npt.NDArray[np.int64],
    net_return_T: npt.NDArray[np.float64],
) -> Track:
    return Track(
        name=name,
        symbols=frame.symbols,
        horizon=frame.horizon,
        made_at_T=frame.made_at_N[index_N],
        net_return_T=net_return_T,
        loss_T=np.full(len(index_N), np.nan),
    )
