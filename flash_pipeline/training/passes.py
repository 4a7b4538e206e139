"""Passes without gradients: how many windows go into one, and the outputs of many.

Shape letters: N windows, L bars of a window, T bars of a series, I inputs, S symbols.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.model.footprint import fitting_rows
from flash_pipeline.model.sequence import SequenceModel, evaluating
from flash_pipeline.model.streaming import CHUNK, stream_windows
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.memory import pass_explained
from flash_pipeline.training.source import BatchSource
from flash_pipeline.windows.dataset import WindowBatches

MOST_WINDOWS = 256
"""Most windows in a pass."""

MOST_BARS = 2**19
"""Most bars in one, so that long windows take no more memory than many: 256 windows of 2,048."""


def pass_size(lookback: int) -> int:
    """Return how many windows of so many bars are held at a time, at least 1."""
    return max(1, min(MOST_WINDOWS, MOST_BARS // lookback))


def windows_in_a_pass(model: SequenceModel, lookback: int, *, masked: bool) -> int:
    """Return how many windows go through a model at once, by bars and by its attention.

    Parameters
    ----------
    model : SequenceModel
        Its attention is that of an evaluation under `autocast`.
    lookback : int
        Bars of a window.
    masked : bool
        Whether bars are masked.
    """
    size = pass_size(lookback * model.tokens_per_bar)
    if not isinstance(model, FlashAttentionTrader):
        return size
    with evaluating(model), autocast(model.project.weight.device):
        fitting = fitting_rows(model, lookback, masked=masked)
    return size if fitting is None else min(size, fitting)


def outputs_of(
    model: SequenceModel, batches: BatchSource, index_N: npt.NDArray[np.int64]
) -> Tensor:
    """Return the outputs [N, S] of windows of a frame, dropout off, on the batches' device.

    Of a model that streams, windows that follow one another are one pass over their bars: equal
    to window by window but for rounding and for the case named in `stream_windows`.

    Parameters
    ----------
    index_N : array
        Positions of windows in the frame, at least one.

    Raises
    ------
    OutOfMemory
        If a pass does not fit the GPU.
    """
    with evaluating(model), torch.inference_mode(), autocast(batches.device):
        return torch.cat(list(_outputs(model, batches, index_N)))


def _outputs(
    model: SequenceModel, batches: BatchSource, index_N: npt.NDArray[np.int64]
) -> Iterator[Tensor]:
    lookback, follows = batches.lookback, len(index_N) > 1 and (np.diff(index_N) == 1).all()
    if follows and isinstance(batches, WindowBatches) and _streams(model, lookback):
        assert isinstance(model, FlashAttentionTrader)
        for first in range(int(index_N[0]), int(index_N[-1]) + 1, CHUNK):
            count = min(CHUNK, int(index_N[-1]) + 1 - first)
            with pass_explained(model.config, count, lookback):
                outputs_TS = stream_windows(model, *batches.series(first, count), lookback)
            yield outputs_TS[lookback - 1 :]
        return
    size = windows_in_a_pass(model, lookback, masked=batches.has_gaps)
    parts = torch.split(torch.from_numpy(index_N).to(batches.home), size)
    with pass_explained(model.config, size, lookback):
        for x_NLI, valid_NL, _ in batches.batches(parts):
            yield model.last_outputs(x_NLI, valid_NL)


def _streams(model: SequenceModel, lookback: int) -> bool:
    """Say whether one pass over many bars gives what a pass per window would."""
    if not isinstance(model, FlashAttentionTrader):
        return False
    reach = model.config.reach
    return model.config.streams and reach is not None and reach <= lookback
