"""The transformer's folds as rows of the backtest report: their rank IC and what they earned.

Shape letters: N dates, S symbols.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from flash_pipeline.backtest import (
    FoldRow,
    Metrics,
    allocation_weights,
    direction_weights,
    hold_cohorts,
    quantile_weights,
    regression_weights,
    summarise,
)
from flash_pipeline.errors import NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation.contenders import TRANSFORMER
from flash_pipeline.evaluation.scores import Outcome, outcomes, rank_ic
from flash_pipeline.evaluation.statistics import Floats
from flash_pipeline.evaluation.terms import Terms, open_venue
from flash_pipeline.evaluation.trading import as_live, load_prices
from flash_pipeline.evaluation.walkforward import describe_predictions, read_predictions
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.windows.blocks import WindowFrame


@dataclass(frozen=True)
class _Market:
    """What the folds are traded on."""

    frame: WindowFrame
    store: KlineStore
    terms: Terms


def fold_rows(
    path: Path, frame: WindowFrame, store: KlineStore, terms: Terms
) -> tuple[FoldRow, ...]:
    """Return one row per fold of the stored walk-forward, for the report's table.

    The walk-forward may be older than the windows: a fold of which they do not hold every date any
    more is left out.

    Parameters
    ----------
    path : Path
        Joined predictions, `walk_plan.JOINED_FILE`.
    frame : WindowFrame
        The windows of the report.
    store : KlineStore
        Their candles.
    terms : Terms
        Those of the report: a fold trades as everyone in the contest does.

    Returns
    -------
    tuple of FoldRow
        Empty where there is no joined file of this version, where it has no transformer, or where
        it is of other symbols, another interval or horizon, or another kind of market.
    """
    try:
        table = read_predictions(path)
    except (NotEnoughHistory, SchemaMismatch):
        return ()
    meta = describe_predictions(table)
    theirs = (meta.symbols, meta.interval, meta.horizon, meta.synthetic)
    if theirs != (frame.symbols, frame.interval.value, frame.horizon, frame.synthetic):
        return ()
    market = _Market(frame, store, terms)
    chosen = table.filter(pc.equal(table["model"], TRANSFORMER))
    rows = []
    for number, scale in enumerate(meta.scales.get(TRANSFORMER, ()), 1):
        fold = outcomes(chosen.filter(pc.equal(chosen["fold"], number)))[0]
        index_N = np.searchsorted(frame.made_at_N, fold.made_at_N)
        if _has_every_date(frame, fold, index_N):
            rows.append(_row(str(number), fold, index_N, scale, market))
    return tuple(rows)


def _has_every_date(frame: WindowFrame, fold: Outcome, index_N: npt.NDArray[np.int64]) -> bool:
    inside = bool((index_N < len(frame.made_at_N)).all())
    return inside and bool((frame.made_at_N[index_N] == fold.made_at_N).all())


def _row(
    name: str, fold: Outcome, index_N: npt.NDArray[np.int64], scale: float, market: _Market
) -> FoldRow:
    interval = rank_ic(fold, market.frame.horizon)
    metrics = _traded(fold, index_N, scale, market)
    return FoldRow(
        name=name,
        first_made_at=int(fold.made_at_N[0]),
        last_made_at=int(fold.made_at_N[-1]),
        rank_ic=interval.value,
        rank_ic_low=interval.low,
        rank_ic_high=interval.high,
        net_return_fraction=metrics.total_return_fraction,
        sharpe_annual=metrics.sharpe_annual,
    )


def _traded(
    fold: Outcome, index_N: npt.NDArray[np.int64], scale: float, market: _Market
) -> Metrics:
    frame = market.frame
    # Dates without any label are no rows of the walk-forward, yet bars of the backtest.
    bar_N = np.arange(index_N[0], index_N[-1] + 1)
    weights_NS = np.zeros((len(bar_N), len(frame.symbols)))
    weights_NS[index_N - index_N[0]] = _weights(frame, fold, index_N, scale)
    weights_NS = hold_cohorts(weights_NS, frame.horizon)
    venue = open_venue(market.terms, load_prices(frame, market.store, bar_N))
    own_cap = max(1.0, float(np.abs(weights_NS).sum(axis=1).max()))
    return summarise(venue.trade(weights_NS, own_cap), frame.interval.bars_per_year)


def _weights(
    frame: WindowFrame, fold: Outcome, index_N: npt.NDArray[np.int64], scale: float
) -> Floats:
    """Return weights by the rule of the fold's head, as `trading.size_positions` has them."""
    told = Predictions(fold.prediction_NS.astype(np.float32))
    value_NS = as_live(frame, told, index_N).value_NS.astype(np.float64)
    if fold.head == "direction":
        return direction_weights(value_NS)
    if fold.head == "allocation":
        widest = float(np.nansum(np.abs(value_NS), axis=1).max())
        return allocation_weights(value_NS, max(1.0, widest))
    if fold.outer_NS2 is not None:
        return quantile_weights(value_NS, fold.outer_NS2[..., 1] - fold.outer_NS2[..., 0])
    return regression_weights(value_NS, scale) if scale > 0 else np.zeros_like(value_NS)
