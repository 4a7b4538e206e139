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

AUDIT = "shuffle"

DEVIATIONS = 3.0
"""Bound of the IC in standard deviations: one honest model in 370 lies beyond it."""


def small_recipe(recipe: Recipe, *, lookback: int = 32) -> Recipe:
    """Return a recipe of the same kind that a processor trains in seconds.

    Head, span, supervision and scaling stay, so that the same code is trained.
    """
    small = recipe.with_model(d_model=16, n_heads=2, n_layers=1, d_ff=32, dropout=0.0)
    shorter = small.with_data(lookback=min(lookback, recipe.data.lookback))
    return shorter.with_training(
        epochs=2, batch_size=64, accumulation=1, learning_rate=1e-3, windows_per_epoch=1024
    )


def audit_shuffle(frame: WindowFrame, recipe: Recipe, rng: np.random.Generator) -> AuditResult:
    """Train a recipe on shuffled labels and measure it on the shuffled labels of the test range.

    The labels of a bar go to another bar, those of all symbols together. A shuffled label is
    independent of everything before it, so the rank IC of an honest model over n test windows has
    mean 0 and standard deviation 1 / sqrt(n - 1), whatever its predictions (Kendall and Gibbons
    1990, Rank Correlation Methods, section 4.6); the mean over symbols has no larger one.

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
        Figures: `rank_ic` and its `bound`, three standard deviations. Not checked for an
        allocation, or where every prediction is the same.

    Raises
    ------
    NotEnoughHistory
        If the windows are too few to split.
    """
    shuffled = _shuffled(frame, rng)
    split = chronological_split(shuffled, recipe.split)
    bundle = train(shuffled, split, recipe).bundle
    told_NS = trading.predict_windows(shuffled, bundle, split.test_N).value_NS
    ic = rank_ic(told_NS, shuffled.label_NS[split.test_N])
    bound = DEVIATIONS / math.sqrt(len(split.test_N) - 1)
    if math.isnan(ic):
        return not_checked(AUDIT, "the model trained on shuffled labels predicts one value only")
    passed = abs(ic) <= bound
    words = (
        f"trained on shuffled labels, the rank IC over {len(split.test_N)} test windows is "
        f"{ic:+.3f}: an honest one lies within {bound:.3f} of 0"
    )
    return AuditResult(AUDIT, passed, words, {"rank_ic": ic, "bound": bound})


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
