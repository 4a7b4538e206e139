"""Intervals around the predictions of a head that has none of its own.

Shape letters: N anchors, S symbols.

Split conformal prediction (Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World;
in the form of Lei and others 2018, Distribution-Free Predictive Inference for Regression): the
half width is a quantile of the errors over a range that the weights were not fitted on, the
validation range. Errors are taken in the unit of the scaled targets, so that an interval widens
with the volatility where the targets are scaled by it.

The coverage would be exact for errors in random order. These come in time, their labels overlap,
and the checkpoint was chosen on the same range: read it as approximate, and a little too narrow.
"""

import math

import numpy as np

from flash_pipeline.model.config import ModelConfig
from flash_pipeline.training.scaler import Floats

COVERAGE = 0.9
"""Share of labels that an interval is to hold: that of the default outer quantiles, 5 to 95 %."""


def conformal_half_width(
    model: ModelConfig, scaled_NS: Floats, predicted_NS: Floats, coverage: float = COVERAGE
) -> tuple[float, ...] | None:
    """Return the half width of each symbol's interval, in the unit of the scaled targets.

    It is the ceil((n + 1) * coverage)-th smallest of n absolute errors.

    Parameters
    ----------
    scaled_NS : array
        Scaled labels of the validation range, NaN where not known.
    predicted_NS : array
        What the model said there, in the same unit.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    tuple of float or None
        NaN for a symbol with too few known labels; None for the heads that predict no return, and
        for that of quantiles, which has its own.
    """
    if model.head != "regression":
        return None
    error_NS = np.abs(scaled_NS.astype(np.float64) - predicted_NS)
    return tuple(_rank(error_N[np.isfinite(error_N)], coverage) for error_N in error_NS.T)


def _rank(errors_N: Floats, coverage: float) -> float:
    rank = math.ceil((len(errors_N) + 1) * coverage)
    return float(np.sort(errors_N)[rank - 1]) if 0 < rank <= len(errors_N) else math.nan
