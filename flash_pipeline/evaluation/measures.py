"""What the models of a head are measured by: the loss that decides, and the figures beside it.

Shape letters: N anchors, S symbols, Q quantile levels.
"""

import math

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import Metrics
from flash_pipeline.evaluation.quality import (
    coverage,
    cross_sectional_ic,
    hit_rate,
    pinball_losses,
    r2_against_zero,
    rank_ic,
)
from flash_pipeline.model import ModelConfig
from flash_pipeline.training.predictor import Predictions

Floats = npt.NDArray[np.float64]


def measured_as(config: ModelConfig) -> str:
    """Return in words what a model predicts: models of which this differs share no loss."""
    if config.head != "quantile":
        return config.head
    return " ".join(["quantile", *(f"{level:g}" for level in config.head_options.quantiles)])


def contest_loss(
    config: ModelConfig, predictions: Predictions, labels_NS: Floats, metrics: Metrics
) -> float:
    """Return the loss in the head's own measure; lower is better.

    Regression: mean squared error. Quantile: pinball loss, summed over the levels. Direction:
    cross-entropy. Allocation: negative Sharpe ratio of the backtest, after costs and whatever the
    model was taught to maximise; 0 where nothing was held.

    Returns and their forecasts are taken in units of the labels' root mean square over the very
    dates of the contest, so that two models whose scalers differ are measured alike.

    Parameters
    ----------
    predictions : Predictions
        NaN where a symbol gets no forecast; such entries, and unknown labels, do not count.
    labels_NS : array
        Forward log returns.
    metrics : Metrics
        Of the backtest over the same dates.
    """
    losses_NS = forecast_losses(config, predictions, labels_NS)
    if losses_NS is None:
        return 0.0 if math.isnan(metrics.sharpe_annual) else -metrics.sharpe_annual
    return float(np.nanmean(losses_NS))


def forecast_losses(
    config: ModelConfig, predictions: Predictions, labels_NS: Floats
) -> Floats | None:
    """Return the loss of every forecast, of which `contest_loss` takes the mean.

    Parameters
    ----------
    predictions, labels_NS
        As for `contest_loss`.

    Returns
    -------
    array [N, S] or None
        NaN where there is no forecast or no label; None for an allocation, which is no forecast.
    """
    if config.head == "allocation":
        return None
    value_NS = predictions.value_NS.astype(np.float64)
    told_NS = np.where(np.isnan(value_NS), np.nan, labels_NS)
    if config.head == "direction":
        up_NS = np.where(labels_NS > 0, value_NS, 1 - value_NS)
        return np.where(np.isnan(told_NS), np.nan, -np.log(up_NS + 1e-12))
    scale_S = np.sqrt(np.nanmean(labels_NS**2, axis=0))
    if predictions.quantiles_NSQ is not None:
        quantiles_NSQ = predictions.quantiles_NSQ / scale_S[:, None]
        return pinball_losses(quantiles_NSQ, told_NS / scale_S, config.head_options.quantiles)
    return np.asarray(((labels_NS - value_NS) / scale_S) ** 2)


def prediction_quality(
    config: ModelConfig, predictions: Predictions, labels_NS: Floats
) -> dict[str, float]:
    """Return figures of the predictions themselves; NaN where one is not defined."""
    value_NS = predictions.value_NS.astype(np.float64)
    centre = 0.5 if config.head == "direction" else 0.0
    figures = {
        "rank_ic": rank_ic(value_NS, labels_NS),
        "cross_sectional_ic": cross_sectional_ic(value_NS, labels_NS),
        "hit_rate": hit_rate(value_NS - centre, labels_NS),
    }
    if config.head == "regression":
        figures["r2_against_zero"] = r2_against_zero(value_NS, labels_NS)
    if predictions.quantiles_NSQ is not None:
        told_NS = np.where(np.isnan(value_NS), np.nan, labels_NS)
        figures["coverage"] = coverage(predictions.quantiles_NSQ, told_NS)
    return figures
