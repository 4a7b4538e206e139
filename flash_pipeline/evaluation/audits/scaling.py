"""Fit the scalers anew on the training range: a model that knew more bars has others.

Shape letters: T bars, N windows, S symbols.
"""

from typing import Any

import numpy as np

from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.scaler import FeatureScaler
from flash_pipeline.training.targets import anchor_volatility, fit_targets
from flash_pipeline.windows.blocks import WindowFrame

AUDIT = "scaling"

SCALING_TOLERANCE = 2e-3
"""In units of each scale: a scaler that a few bars at the ends of the range do not share still
agrees, one that was fitted on the validation range as well does not."""


def audit_scaling(frame: WindowFrame, bundle: ModelBundle) -> AuditResult:
    """Compare a model's scalers with those of its own training range.

    Parameters
    ----------
    frame : WindowFrame
        Windows of the model's symbols, lookback and horizon that reach back over its training
        range; otherwise the audit is not checked. See `audit_model`.
    bundle : ModelBundle
        The model; its provenance says what it was fitted on.

    Returns
    -------
    AuditResult
        Figures: the largest difference of a scaler of the features, and of the targets, in units
        of the scale.
    """
    told, step = bundle.provenance, frame.interval.milliseconds
    first = told.train_from - (bundle.lookback - 1) * step
    last = told.train_until - (bundle.horizon + 1) * step
    if not frame.start_time_T[0] <= first < last <= frame.anchor_N[-1]:
        return not_checked(
            AUDIT,
            f"the windows from {iso_utc(int(frame.start_time_T[0]))} do not hold all of the "
            f"training range from {iso_utc(first)} to {iso_utc(told.train_until)}",
        )
    start_T = frame.start_time_T
    x_TSF = frame.along_time(frame.x_BKSF)[(start_T >= first) & (start_T <= last)]
    features = FeatureScaler.fit(x_TSF, bundle.features.kind)
    fitted_N = (frame.anchor_N >= told.train_from) & (frame.anchor_N <= last)
    targets = fit_targets(
        bundle.config,
        "volatility" if bundle.targets.kind == "volatility" else "rms",
        frame.label_NS[fitted_N],
        anchor_volatility(frame)[fitted_N],
        bundle.horizon,
    )
    moved = [
        (bundle.features.centre_SF - features.centre_SF) / features.scale_SF,
        bundle.features.scale_SF / features.scale_SF - 1,
    ]
    of_features = max(float(np.abs(each).max()) for each in moved)
    of_targets = _difference(bundle.targets.to_dict(), targets.to_dict())
    passed = max(of_features, of_targets) <= SCALING_TOLERANCE
    words = (
        f"scalers fitted on the training range to {iso_utc(told.train_until)} "
        f"{'are' if passed else 'are not'} those of the model: they differ by "
        f"{max(of_features, of_targets):.2g} scales"
    )
    return AuditResult(AUDIT, passed, words, {"features": of_features, "targets": of_targets})


def _difference(stored: dict[str, Any], fitted: dict[str, Any]) -> float:
    """Return the largest relative difference of the numbers of two target scalers."""
    pairs = [
        (np.atleast_1d(stored[name]), np.atleast_1d(fitted[name]))
        for name in fitted
        if name != "kind"
    ]
    return max((float(np.abs(a / b - 1).max()) for a, b in pairs), default=0.0)
