"""Recompute what a model was taught from the candles: labels, ranges, the size of predictions.

Shape letters: T bars, N windows, S symbols.
"""

import numpy as np
import numpy.typing as npt

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.candles import Candles
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked, tolerance
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import ModelBundle, Provenance
from flash_pipeline.windows.blocks import WindowFrame

AUDIT = "labels"

SCALE_TOLERANCE = 1e-3
"""Largest relative difference of `prediction_scale` that rounding explains: a root mean square
over another range differs by more."""


def audit_labels(candles: Candles, frame: WindowFrame, bundle: ModelBundle) -> AuditResult:
    """Recompute every label from the closes, and check the model's ranges and its scale.

    A label is ln(close[t + horizon] / close[t]), to a rounding of float32, and ends with the bar
    t + horizon. By the dates stored with the model no label of the training range reaches into the
    validation range, and none of that into the test range. `prediction_scale` is the root mean
    square of the predictions over the validation range.

    Parameters
    ----------
    candles : Candles
        Those that the windows were made from.
    frame : WindowFrame
        Windows that reach back over the model's validation range.
    bundle : ModelBundle
        The model; its provenance has the dates.

    Returns
    -------
    AuditResult
        Figures: `labels` compared and how many are `wrong`, and the relative difference of the
        `scale`. Not checked where labels are right, but the model does not tell its dates or the
        windows do not reach back to them.
    """
    compared, wrong = _wrong_labels(candles, frame)
    figures = {"labels": float(compared), "wrong": float(wrong)}
    guilty = [f"{wrong} of {compared} labels are not those of the candles"] if wrong else []
    late_N = frame.label_end_N != frame.made_at_N + _reach(frame)
    if late_N.any():
        guilty.append(f"{int(late_N.sum())} labels do not end {frame.horizon} bars on")
    told = bundle.provenance
    guilty += _overlaps(told, _reach(frame))
    moved = _scale_moved(frame, bundle)
    if moved is not None:
        figures["scale"] = moved
        if moved > max(SCALE_TOLERANCE, tolerance()):
            guilty.append(
                f"prediction_scale differs by {moved:.2%} from that of the validation range"
            )
    if guilty:
        return AuditResult(AUDIT, False, "; ".join(guilty), figures)
    if moved is None:
        return not_checked(
            AUDIT, "the model does not tell its split dates, or the windows begin after them"
        )
    words = (
        f"{compared} labels are those of the candles, none of a range meets the next one, and "
        "prediction_scale is that of the validation range"
    )
    return AuditResult(AUDIT, True, words, figures)


def _reach(frame: WindowFrame) -> int:
    """Return how far a label reaches, ms."""
    return frame.horizon * frame.interval.milliseconds


def _wrong_labels(candles: Candles, frame: WindowFrame) -> tuple[int, int]:
    """Return how many labels are known, and how many of them the candles do not give.

    A label that the windows lack, as of a candle that came later, tells nothing of the future.
    """
    step, first = frame.interval.milliseconds, int(frame.anchor_N[0])
    bars = len(frame.anchor_N) + frame.horizon
    close_TS = np.full((bars, len(frame.symbols)), np.nan)
    for s, symbol in enumerate(frame.symbols):
        table = candles.tables[symbol]
        row_M = (table["start_time"].to_numpy() - first) // step
        inside_M = (row_M >= 0) & (row_M < bars)
        close_TS[row_M[inside_M], s] = table["close"].to_numpy()[inside_M]
    expected_NS = np.log(close_TS[frame.horizon :] / close_TS[: -frame.horizon]).astype(np.float32)
    label_NS = frame.label_NS
    known_NS = np.isfinite(label_NS)
    apart_NS = np.abs(label_NS - expected_NS) > np.spacing(np.abs(expected_NS))
    wrong_NS = known_NS & (apart_NS | ~np.isfinite(expected_NS))
    return int(known_NS.sum()), int(wrong_NS.sum())


def _overlaps(told: Provenance, reach: int) -> list[str]:
    """Say which labels reach into the next range, and which the model's claims leave out."""
    ranges = {
        "training": (told.trained_to, told.validated_from, told.train_until),
        "validation": (told.validated_to, told.tested_from, told.seen_until),
    }
    guilty = []
    for name, (last, following, claimed) in ranges.items():
        if last is None or following is None:
            continue
        end = last + reach
        if end > following:
            guilty.append(
                f"the {name} labels end at {iso_utc(end)}, in the next range from "
                f"{iso_utc(following)}"
            )
        if end > claimed:
            guilty.append(f"the {name} labels end at {iso_utc(end)}, after {iso_utc(claimed)}")
    return guilty


def _scale_moved(frame: WindowFrame, bundle: ModelBundle) -> float | None:
    """Return the relative difference of the stored scale; None where it cannot be recomputed."""
    told = bundle.provenance
    if told.validated_from is None or told.validated_to is None:
        return None
    if frame.made_at_N[0] > told.validated_from or frame.made_at_N[-1] < told.validated_to:
        return None
    made_N = frame.made_at_N
    inside_N = frame.known_N & (made_N >= told.validated_from) & (made_N <= told.validated_to)
    index_N: npt.NDArray[np.int64] = np.flatnonzero(inside_N)
    value_NS = trading.predict_windows(frame, bundle, index_N).value_NS.astype(np.float64)
    scale = float(np.sqrt((value_NS**2).mean()))
    if scale == 0:
        return 0.0 if bundle.prediction_scale == 0 else float("inf")
    return abs(bundle.prediction_scale / scale - 1)
