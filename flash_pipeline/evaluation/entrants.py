"""A registered model in a contest: what it did there, and how that is told.

Shape letters: N dates, T bars, S symbols. The dates are the bars.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import BacktestResult, Metrics, summarise
from flash_pipeline.evaluation.measures import (
    contest_loss,
    forecast_losses,
    measured_as,
    prediction_quality,
)
from flash_pipeline.evaluation.quality import mean_by_date
from flash_pipeline.evaluation.terms import Venue
from flash_pipeline.evaluation.tracks import Track
from flash_pipeline.evaluation.trading import as_live, gross_cap, predict_windows, size_positions
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.windows.blocks import WindowFrame


@dataclass(frozen=True)
class Contestant:
    """A registered model and how it did over the dates of a contest."""

    version: str
    """Version in the registry."""
    head: str
    """What it predicts; the levels too where these are quantiles."""
    loss: float
    """Mean loss over the dates in a unit that models of one head share; lower is better."""
    quality: dict[str, float]
    """Rank IC, hit rate and the like; NaN where not defined."""
    metrics: Metrics
    """Of the backtest, after costs."""


@dataclass(frozen=True)
class Outcome:
    """How one contestant did."""

    predictions_NS: npt.NDArray[np.float32]
    """In the unit of its head; NaN where it would have made none live."""
    result: BacktestResult
    """Its account."""
    contestant: Contestant
    """Its figures."""
    track: Track
    """What it earned and lost, date by date."""


def run_model(
    frame: WindowFrame,
    venue: Venue,
    index_N: npt.NDArray[np.int64],
    version: str,
    bundle: ModelBundle,
) -> Outcome:
    """Let a model predict and trade the dates of a contest.

    Parameters
    ----------
    venue : Venue
        Of the bars of the dates.
    index_N : array
        Positions of the dates' windows.
    """
    told = as_live(frame, predict_windows(frame, bundle, index_N), index_N)
    result = venue.trade(size_positions(bundle, told), gross_cap(bundle))
    metrics = summarise(result, frame.interval.bars_per_year)
    labels_NS = frame.label_NS[index_N].astype(np.float64)
    losses_NS = forecast_losses(bundle.config, told, labels_NS)
    unit = measured_as(bundle.config)
    contestant = Contestant(
        version=version,
        head=unit,
        loss=contest_loss(bundle.config, told, labels_NS, metrics),
        quality=prediction_quality(bundle.config, told, labels_NS),
        metrics=metrics,
    )
    track = Track(
        name=version,
        symbols=frame.symbols,
        horizon=frame.horizon,
        made_at_T=frame.made_at_N[index_N],
        net_return_T=result.returns_T,
        loss_T=np.full(len(index_N), np.nan) if losses_NS is None else mean_by_date(losses_NS),
        measured_as="" if losses_NS is None else unit,
        liquidated=result.liquidated,
    )
    return Outcome(told.value_NS, result, contestant, track)


def readable(challenger: Contestant, champion: Contestant | None) -> dict[str, float | str | None]:
    """Return the quality of the challenger's predictions by names for people.

    The champion's loss and return are beside it where there is one.
    """
    names = {
        "rank_ic": "Rank IC",
        "cross_sectional_ic": "Cross-sectional rank IC",
        "hit_rate": "Hit rate of predictions",
        "r2_against_zero": "R² against the zero forecast",
        "coverage": "Share of returns between the outer quantiles",
    }
    rows: dict[str, float | str | None] = {
        names[name]: value if np.isfinite(value) else None
        for name, value in challenger.quality.items()
    }
    rows[f"Loss ({challenger.head})"] = challenger.loss
    if champion is not None:
        rows[f"Loss of champion, version {champion.version}"] = champion.loss
        rows["Net return of the champion, same dates"] = champion.metrics.total_return_fraction
    return rows
