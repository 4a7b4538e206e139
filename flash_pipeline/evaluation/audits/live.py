"""Stand at an hour of the past: the live forecast is the backtest's prediction for that hour.

Shape letters: N windows, S symbols.
"""

from collections.abc import Sequence

import numpy as np

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.result import AuditResult, largest_difference, tolerance
from flash_pipeline.evaluation.forecasts import make_forecast
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.windows.blocks import WindowFrame

AUDIT = "live"


def audit_live(
    candles: Candles,
    frame: WindowFrame,
    version: str,
    bundle: ModelBundle,
    hours: Sequence[int],
) -> AuditResult:
    """Make the forecast of some past hours from the candles of then, as the live chain does.

    The backtest predicts all of them at once, from windows that go on beyond each.

    Parameters
    ----------
    candles : Candles
        Of the model's symbols, back to a window, its warm-up and a horizon before each hour.
    frame : WindowFrame
        What the backtest predicts from.
    version : str
        Of the model.
    bundle : ModelBundle
        The model.
    hours : sequence of int
        Instants of forecasts, `made_at` of windows of the frame that are not its last, after
        everything that the model has seen; ms since the epoch.

    Returns
    -------
    AuditResult
        Figures: `forecasts` compared, and the largest `difference` in units of the predictions'
        root mean square.

    Raises
    ------
    BundleMismatch
        As for `make_forecast`.
    """
    place = {int(made_at): n for n, made_at in enumerate(frame.made_at_N)}
    first = min(place[hour] for hour in hours)
    index_N = np.arange(first, len(frame.anchor_N))
    backtest_NS = trading.predict_windows(frame, bundle, index_N).value_NS
    last_N = frame.offset_N[index_N] + frame.lookback - 1
    known_NS = frame.valid_BKS[frame.block_N[index_N], last_N]
    backtest_NS = np.where(known_NS, backtest_NS, np.nan)
    bars = bundle.lookback + bundle.horizon + candles.warmup_bars
    worst, compared, guilty = 0.0, 0, ""
    for hour in hours:
        since = hour - bars * candles.interval.milliseconds
        then = candles.between(since, hour).frame(
            bundle.lookback, bundle.horizon, synthetic=frame.synthetic
        )
        rows = {row["symbol"]: row for row in make_forecast(then, version, bundle).to_pylist()}
        live_S = np.array([rows[s]["prediction"] if s in rows else np.nan for s in frame.symbols])
        difference = largest_difference(live_S, backtest_NS[place[hour] - first])
        compared += len(rows)
        if difference > worst:
            worst, guilty = difference, iso_utc(hour)
    passed = worst <= tolerance()
    words = f"{compared} forecasts of {len(hours)} past hours made from the candles of then "
    words += (
        "are the backtest's predictions"
        if passed
        else f"are not the backtest's predictions: those of {guilty} differ by {worst:.2g}"
    )
    return AuditResult(AUDIT, passed, words, {"forecasts": float(compared), "difference": worst})
