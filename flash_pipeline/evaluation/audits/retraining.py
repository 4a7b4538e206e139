"""Train a model again on the ranges that it claims: one that saw more is another one.

Shape letters: N windows, S symbols.
"""

import math
from dataclasses import dataclass

import numpy as np

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.market import iso_utc
from flash_pipeline.training.bundle import ModelBundle, Provenance, default_device
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.trainer import Parent, train
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

AUDIT = "retraining"

DIFFERENCE = 0.05
"""Root mean square of the difference of the predictions, in units of theirs, that rounding may
leave: on one processor it is 0, and a model that saw other windows is off by some tenths."""

MOST_WORK = 3e12
"""Floating-point operations, about a minute on two cores, of the longest training repeated."""

_FLOPS = 6  # of a parameter and a bar: 2 forward, 4 backward


@dataclass(frozen=True)
class Original:
    """What a registered model says that it was trained by."""

    recipe: Recipe
    """The stored recipe."""
    device: str
    """Where it was trained."""
    parent: Parent | None
    """The model that it started from; None for random weights, or where it is gone."""


def audit_retraining(
    frame: WindowFrame, bundle: ModelBundle, original: Original, *, most_work: float = MOST_WORK
) -> AuditResult:
    """Repeat the training on the claimed ranges, and compare the predictions beyond them.

    On a processor a training gives the same bits each time, so there is no false alarm on windows
    of the snapshot that the model was trained on. Where they have changed since, a model that is
    the same again passes, and for one that is not the audit cannot tell the model from the data.

    Parameters
    ----------
    frame : WindowFrame
        Windows that reach back over the training range.
    bundle : ModelBundle
        The model.
    original : Original
        What it was trained by.
    most_work : float
        Floating-point operations of the longest training that is repeated.

    Returns
    -------
    AuditResult
        Figures: the `difference` of the predictions. Not checked for a training of a GPU, of
        another version of the code, longer than `most_work`, or whose start is gone.
    """
    told = bundle.provenance
    why = _unrepeatable(frame, bundle, original, most_work)
    split = None if why else _split(frame, told)
    if split is None:
        return not_checked(AUDIT, why or "the windows do not hold all of its ranges")
    again = train(frame, split, original.recipe, parent=original.parent).bundle
    mine_NS, again_NS = (
        trading.predict_windows(frame, each, split.test_N).value_NS.astype(np.float64)
        for each in (bundle, again)
    )
    size = max(float((again_NS**2).mean()), float((mine_NS**2).mean()))
    apart = float(((mine_NS - again_NS) ** 2).mean())
    difference = math.sqrt(apart / size) if size > 0 else 0.0
    words = f"trained again on what it claims to {iso_utc(told.seen_until)}, "
    if difference <= DIFFERENCE:
        return AuditResult(AUDIT, True, words + "it is the same", {"difference": difference})
    words += f"it is another: the predictions after it differ by {difference:.2f} of their size"
    if frame.snapshot != told.snapshot:
        return not_checked(AUDIT, f"{words}; the windows have changed since, which may be why")
    return AuditResult(AUDIT, False, words, {"difference": difference})


def _unrepeatable(
    frame: WindowFrame, bundle: ModelBundle, original: Original, most_work: float
) -> str | None:
    told, recipe = bundle.provenance, original.recipe
    if original.device != "cpu" or default_device().type != "cpu":
        return f"it was trained on {original.device}: only a processor repeats a training exactly"
    if recipe.fingerprint(told.snapshot) != told.fingerprint:
        return "it was trained by another version of the code, or by another recipe"
    if told.parent is not None and original.parent is None:
        return f"version {told.parent}, which it started from, cannot be read any more"
    if frame.lookback != bundle.lookback:
        return f"the windows have {frame.lookback} bars, the model {bundle.lookback}"
    work = _work(recipe, bundle, warm=told.parent is not None)
    if work is None:
        return "it does not tell its split dates"
    if work > most_work:
        return f"to repeat the training takes {work:.1g} operations: expected {most_work:.1g}"
    return None


def _work(recipe: Recipe, bundle: ModelBundle, *, warm: bool) -> float | None:
    """Return the operations of a training, without those of its attention."""
    told, chosen = bundle.provenance, recipe.train
    if told.trained_to is None:
        return None
    windows = (told.trained_to - told.train_from) // recipe.interval.milliseconds
    windows = min(windows, chosen.windows_per_epoch or windows)
    parameters = sum(w.numel() for each in bundle.member_weights for w in each.values())
    epochs = chosen.warm_epochs if warm else chosen.epochs
    return float(_FLOPS * epochs * windows * bundle.lookback * parameters)


def _split(frame: WindowFrame, told: Provenance) -> Split | None:
    """Return the claimed ranges; None where the windows do not hold them."""
    dates = (told.trained_to, told.validated_from, told.validated_to, told.tested_from)
    if None in dates or frame.anchor_N[0] > told.train_from:
        return None
    trained_to, validated_from, validated_to, tested_from = (date or 0 for date in dates)
    made_N, known_N = frame.made_at_N, frame.known_N
    parts = (
        (frame.anchor_N >= told.train_from) & (made_N <= trained_to),
        (made_N >= validated_from) & (made_N <= validated_to),
        made_N >= tested_from,
    )
    found = [np.flatnonzero(part_N & known_N) for part_N in parts]
    return Split(*found) if all(len(part_N) for part_N in found) else None
