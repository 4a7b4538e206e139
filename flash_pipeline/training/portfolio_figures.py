"""The picture of the trainings of a portfolio model."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = {"joint": "#1d4e89", "axial": "#c98a1b"}


def loss_curves(fits: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the losses of all trainings: one panel a fold, training dashed, validation in full.

    Parameters
    ----------
    fits : sequence of mapping
        Of `Decisions.facts`.

    Returns
    -------
    bytes
        A PNG.
    """
    from matplotlib.figure import Figure

    folds = sorted({fit["fold"] for fit in fits})
    figure = Figure(figsize=(4.5 * len(folds), 3.4), dpi=130, layout="constrained")
    grid = figure.subplots(1, len(folds), squeeze=False, sharey=True)[0]
    for axes, fold in zip(grid, folds, strict=True):
        for fit in (each for each in fits if each["fold"] == fold):
            steps = [look["step"] for look in fit["history"]]
            colour = COLOURS.get(fit["variant"], "#57606a")
            train = [look["train_loss"] for look in fit["history"]]
            judged = [look["validation_loss"] for look in fit["history"]]
            axes.plot(steps, train, color=colour, linestyle=(0, (4, 2)), linewidth=1)
            axes.plot(steps, judged, color=colour, linewidth=1.6, label=fit["training"])
        axes.set_title(f"Fold {fold}", loc="left", fontsize=10)
        axes.set_xlabel("step")
        axes.grid(visible=True, color="#d9dde3", linewidth=0.6)
        axes.legend(fontsize=8)
    grid[0].set_ylabel("loss (training dashed)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
