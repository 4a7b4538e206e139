"""Cut the history shorter: the newest rows may not remember what came before their warm-up.

Shape letters: N windows, S symbols.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.result import AuditResult, largest_difference, tolerance
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.training.bundle import ModelBundle

Floats = npt.NDArray[np.floating]

AUDIT = "warm-up"

EXTRA_BARS = (0, 1, 23, 100)
"""Bars of history beyond the warm-up that are tried."""

FEATURE_TOLERANCE = 1e-9
"""Relative: a window sum over another number of rows differs in its last bits."""

_TINY = 1e-300


def audit_warmup(
    candles: Candles, bundle: ModelBundle, *, rows: int = 24, extra: Sequence[int] = EXTRA_BARS
) -> AuditResult:
    """Compute the newest features and predictions from histories of several lengths.

    Each is compared with that from all candles at hand. What differs depends on where the
    history begins: live, where it begins elsewhere than in training, it is another feature.

    Parameters
    ----------
    candles : Candles
        Of the model's symbols; more than the longest history that is tried.
    bundle : ModelBundle
        The model.
    rows : int
        Newest bars compared, at least the horizon, which a frame needs for a label.
    extra : sequence of int
        Bars beyond the catalog's warm-up, each 0 or more; predictions are made with the fewest
        and the most of them.

    Returns
    -------
    AuditResult
        Figures: the largest relative difference of a feature, and of a prediction in units of
        the predictions' root mean square.
    """
    rows = max(rows, bundle.horizon)
    step = candles.interval.milliseconds
    whole = candles.features()
    end = int(whole["start_time"][-1].as_py()) + step
    expected = _since(whole, end - rows * step)
    told_NS = _from(candles, bundle, rows, whole)
    differs: dict[str, float] = dict.fromkeys(FEATURE_NAMES, 0.0)
    of_predictions = 0.0
    for bars in extra:
        short = candles.between(end - (candles.warmup_bars - 1 + rows + bars) * step, end)
        found = _since(short.features(), end - rows * step)
        for name in FEATURE_NAMES:
            pair = [t[name].to_numpy(zero_copy_only=False) for t in (found, expected)]
            differs[name] = max(differs[name], _relative(*pair))
    for bars in {min(extra), max(extra)}:
        history = candles.warmup_bars - 1 + bundle.lookback + rows + bars
        again_NS = _from(candles.between(end - history * step, end), bundle, rows)
        of_predictions = max(of_predictions, largest_difference(again_NS, told_NS))
    guilty = [name for name, value in differs.items() if value > FEATURE_TOLERANCE]
    guilty += ["the predictions"] if of_predictions > tolerance() else []
    words = f"histories of {', '.join(str(bars) for bars in extra)} bars beyond the warm-up: "
    words += (
        f"{', '.join(guilty)} of the newest {rows} bars depend on where the history begins"
        if guilty
        else f"the newest {rows} bars have the same features and predictions"
    )
    figures = {"features": max(differs.values()), "predictions": of_predictions}
    return AuditResult(AUDIT, not guilty, words, figures)


def _since(table: pa.Table, start: int) -> pa.Table:
    return table.filter(pc.greater_equal(table["start_time"], start))


def _from(
    candles: Candles, bundle: ModelBundle, rows: int, features: pa.Table | None = None
) -> Floats:
    """Return the newest predictions that a history allows; NaN where it has too few bars."""
    told_NS = np.full((rows, len(candles.tables)), np.nan, np.float32)
    try:
        frame = candles.frame(bundle.lookback, bundle.horizon, features=features)
    except NotEnoughHistory:  # some feature takes longer to warm up than the catalog says
        return told_NS
    windows = min(rows, len(frame.anchor_N))
    index_N = np.arange(len(frame.anchor_N) - windows, len(frame.anchor_N))
    told_NS[rows - windows :] = trading.predict_windows(frame, bundle, index_N).value_NS
    return told_NS


def _relative(found: Floats, expected: Floats) -> float:
    """Return the largest difference relative to the values' size; infinite where one is null."""
    if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    known = np.isfinite(expected)
    if not known.any():
        return 0.0
    size = np.abs(expected[known])
    difference = np.abs(found[known] - expected[known])
    return float((difference / np.maximum(size, max(size.mean(), _TINY))).max())
