"""The baselines that a challenger meets beside the champion.

Shape letters: N anchors, T bars, S symbols.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import BacktestResult, hold_cohorts, regression_weights
from flash_pipeline.evaluation.terms import Venue
from flash_pipeline.evaluation.tracks import Track
from flash_pipeline.evaluation.trading import as_live
from flash_pipeline.settings import error_line
from flash_pipeline.training.baselines import Baseline
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

_log = logging.getLogger(__name__)

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
    """The baselines that can be met, and the others."""

    rivals: tuple[Rival, ...] = ()
    """Those that can be met, in the order given."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Why a baseline is not among them, by name."""

    @property
    def remarks(self) -> tuple[tuple[str, str], ...]:
        """The others, as rows of a report's assumptions."""
        return tuple((f"No baseline {name}", reason) for name, reason in self.absent.items())


def gather_rivals(
    frame: WindowFrame,
    split: Split,
    baselines: Mapping[str, Baseline],
    absent: Mapping[str, str],
) -> Field:
    """Make rivals of fitted baselines.

    Parameters
    ----------
    split : Split
        Ranges that they were fitted on: those that the challenger had.
    baselines : mapping
        Fitted ones by name: see `training.baseline_session.ready_baselines`.
    absent : mapping
        Why one is not among them, by name. One that cannot predict joins these.
    """
    seen_until = int(frame.label_end_N[split.validation_N[-1]])
    rivals, left_out = [], dict(absent)
    for name, model in baselines.items():
        try:
            told_NS = model.predict(frame, split.validation_N).value_NS.astype(np.float64)
        except Exception as error:  # noqa: BLE001  (an optional model stops no report)
            _log.warning("baseline %s cannot predict and is left out", name, exc_info=error)
            left_out[name] = error_line(error)
            continue
        scale = float(np.sqrt(np.mean(told_NS**2)))
        rivals.append(Rival(name, model, scale, seen_until))
    return Field(tuple(rivals), left_out)


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
