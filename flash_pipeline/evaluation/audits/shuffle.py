"""Shuffle the labels and train on them: whoever still predicts has seen the answers.

Shape letters: T bars, B blocks, K bars of a block, N windows, S symbols.
"""

import math
from dataclasses import replace

import numpy as np

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits.result import AuditResult, not_checked
from flash_pipeline.evaluation.quality import rank_ic
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import chronological_split
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

AUDIT = "shuffle"

DEVIATIONS = 3.0
"""Bound of the IC in standard deviations: one honest model in 370 lies beyond it."""


WINDOWS = 1500
"""Newest windows that are shuffled, at most: so few are learnt by heart in seconds."""

_PASSES = 30


def small_recipe(recipe: Recipe, *, lookback: int = 16) -> Recipe:
    """Return a recipe of the same kind that learns `WINDOWS` windows by heart in seconds.

    Head, span, supervision and scaling stay, so that the same code is trained.
    """
    small = recipe.with_model(d_model=32, n_heads=2, n_layers=1, d_ff=64, dropout=0.0)
    shorter = small.with_data(lookback=min(lookback, recipe.data.lookback))
    return shorter.with_training(
        epochs=1,
        batch_size=64,
        accumulation=1,
        learning_rate=1e-2,
        weight_decay=0.0,
        windows_per_epoch=None,
        ema_decay=None,
        seeds=1,
    )


def audit_shuffle(frame: WindowFrame, recipe: Recipe, rng: np.random.Generator) -> AuditResult:
    """Train a recipe on shuffled labels and measure it on the shuffled labels of the test range.

    The labels of a bar go to another bar, those of all symbols together. A shuffled label is
    independent of everything before it, so the rank IC of an honest model over n test windows has
    mean 0 and standard deviation 1 / sqrt(n - 1), whatever its predictions (Kendall and Gibbons
    1990, Rank Correlation Methods, section 4.6); the mean over symbols has no larger one.

    The windows are gone through many times in a single epoch, so that the validation chooses
    nothing: it would choose the weights that have learnt least by heart. A positive control shows
    that the training can: a second model gets the test range to learn from, and must be caught.

    Parameters
    ----------
    frame : WindowFrame
        Windows of the recipe's lookback and horizon.
    recipe : Recipe
        Small: it is trained here.
    rng : numpy.random.Generator
        What the labels are shuffled with.

    Returns
    -------
    AuditResult
        Figures: `rank_ic` and its `bound`, three standard deviations, and the IC of the
        `control`. Not checked where every prediction is the same, or the control lies within the
        bound.

    Raises
    ------
    NotEnoughHistory
        If the windows are too few to split.
    """
    shuffled = _shuffled(frame, rng)
    split = chronological_split(shuffled, recipe.split)
    ic = _learnt(shuffled, split, recipe)
    bound = DEVIATIONS / math.sqrt(len(split.test_N) - 1)
    if math.isnan(ic):
        return not_checked(AUDIT, "the model trained on shuffled labels predicts one value only")
    words = (
        f"trained on shuffled labels, the rank IC over {len(split.test_N)} test windows is "
        f"{ic:+.3f}: an honest one lies within {bound:.3f} of 0"
    )
    if abs(ic) > bound:
        return AuditResult(AUDIT, False, words, {"rank_ic": ic, "bound": bound})
    everything_N = np.concatenate([split.train_N, split.test_N])
    control = _learnt(shuffled, replace(split, train_N=np.unique(everything_N)), recipe)
    figures = {"rank_ic": ic, "bound": bound, "control": control}
    if not control > bound:
        return replace(
            not_checked(
                AUDIT,
                f"a model that learns from the test range has a rank IC of {control:+.3f} there, "
                f"within {bound:.3f} of 0: the audit would not see it",
            ),
            figures=figures,
        )
    words += f"; one that learns from the test range is at {control:+.3f}"
    return AuditResult(AUDIT, True, words, figures)


def _learnt(frame: WindowFrame, split: Split, recipe: Recipe) -> float:
    """Return the rank IC over the test range of a model that learns the training range by heart."""
    often = replace(split, train_N=np.repeat(split.train_N, _PASSES))
    bundle = train(frame, often, recipe).bundle
    told_NS = trading.predict_windows(frame, bundle, split.test_N).value_NS
    return rank_ic(told_NS, frame.label_NS[split.test_N])


def _shuffled(frame: WindowFrame, rng: np.random.Generator) -> WindowFrame:
    """Return the windows with the labels of all bars that have one exchanged at random."""
    y_TS = frame.along_time(frame.y_BKS).copy()
    known_T = np.flatnonzero(np.isfinite(y_TS).any(axis=1))
    y_TS[known_T] = y_TS[rng.permutation(known_T)]
    blocks, width = frame.y_BKS.shape[:2]
    bar_BK = np.arange(blocks)[:, None] * frame.stride + np.arange(width)
    y_BKS = y_TS[np.minimum(bar_BK, len(y_TS) - 1)]
    y_BKS[bar_BK >= len(y_TS)] = np.nan
    return replace(frame, y_BKS=y_BKS)
