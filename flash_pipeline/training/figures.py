"""Pictures of a training."""

import io
from collections.abc import Sequence

from flash_pipeline.training.state import Epoch


def loss_curve(history: Sequence[Epoch], *, title: str) -> bytes:
    """Draw the losses by epoch and mark the epoch that was kept.

    Parameters
    ----------
    history : sequence of Epoch
        At least one epoch.
    title : str
        Shown above the axes.

    Returns
    -------
    bytes
        A PNG of 1000 x 562 pixels; equal histories give equal bytes.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    best = min(history, key=lambda epoch: epoch.validation_loss)
    numbers = [epoch.number for epoch in history]
    figure = Figure(figsize=(8, 4.5), dpi=125, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(numbers, [e.train_loss for e in history], marker="o", label="training")
    axes.plot(numbers, [e.validation_loss for e in history], marker="o", label="validation")
    axes.axvline(best.number, color="0.5", linestyle="--", linewidth=1)
    axes.annotate(
        f"kept: epoch {best.number}",
        (best.number, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -12),
        textcoords="offset points",
        color="0.35",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, xlabel="epoch", ylabel="loss on scaled labels")
    axes.grid(alpha=0.3)
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
