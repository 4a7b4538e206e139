"""Spoil the future: nothing that was known before may change by a single bit.

Shape letters: N windows, S symbols.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.result import AuditResult
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import ModelBundle

AUDIT = "future"


def audit_future(
    candles: Candles, bundle: ModelBundle, cut: int, rng: np.random.Generator
) -> AuditResult:
    """Change every candle from an instant on; compare all features and predictions before it.

    Both are computed twice, over the same bars: only what lies after the cut differs. Windows on
    both sides are predicted in one go, as a backtest does, so that a model which reads beyond
    the bar it predicts from shows.

    Parameters
    ----------
    candles : Candles
        Of the model's symbols: a window, the features' warm-up and some bars more before the
        cut, and some bars after it.
    bundle : ModelBundle
        The model.
    cut : int
        Open of the first spoiled candle, ms since the epoch.
    rng : numpy.random.Generator
        What the candles are spoiled with.

    Returns
    -------
    AuditResult
        Figures: `features` and `predictions` compared, and how many of each changed.

    Raises
    ------
    NotEnoughHistory
        If the candles are too short for one window.
    """
    pair = [candles, candles.spoiled(cut, rng)]
    features = [each.features() for each in pair]
    clean, spoiled = (_before(table, cut) for table in features)
    changed = {name: _changed(clean[name], spoiled[name]) for name in FEATURE_NAMES}
    frames = [
        each.frame(bundle.lookback, bundle.horizon, features=table)
        for each, table in zip(pair, features, strict=True)
    ]
    everything_N = np.arange(len(frames[0].anchor_N))
    told = [trading.predict_windows(frame, bundle, everything_N) for frame in frames]
    known_N = frames[0].made_at_N <= cut
    changed_NS = _bits(told[0].value_NS[known_N]) != _bits(told[1].value_NS[known_N])
    figures = {
        "features": float(clean.num_rows * len(FEATURE_NAMES)),
        "features_changed": float(sum(changed.values())),
        "predictions": float(changed_NS.size),
        "predictions_changed": float(changed_NS.sum()),
    }
    guilty = [name for name, count in changed.items() if count]
    guilty += ["the predictions"] if changed_NS.any() else []
    words = f"every candle from {iso_utc(cut)} on was changed: "
    words += (
        f"{', '.join(guilty)} before it changed with them"
        if guilty
        else "no earlier feature or prediction changed by a bit"
    )
    return AuditResult(AUDIT, not guilty, words, figures)


def _before(table: pa.Table, cut: int) -> pa.Table:
    return table.filter(pc.less(table["start_time"], cut))


def _changed(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int:
    """Return how many values differ; null equals null."""
    pair = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in (one, other)]
    return int((_bits(pair[0]) != _bits(pair[1])).sum())


def _bits(values: npt.NDArray[np.floating]) -> npt.NDArray[np.integer]:
    """Return the bits of floats as whole numbers, one for every NaN."""
    plain = np.where(np.isnan(values), np.nan, values).astype(values.dtype)
    return plain.view(np.int64 if values.dtype.itemsize == 8 else np.int32)
