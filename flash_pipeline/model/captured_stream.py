"""A streamed pass as one CUDA graph: one launch in place of hundreds.

A year of hours is a short pass for a GPU, which without this waits for Python most of the time
(see docs/performance.md). (Gray 2019, "Getting Started with CUDA Graphs".)

Shape letters: T bars of the series, I inputs per bar, S symbols. A leading 1 is the one row.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.sequence import evaluating
from flash_pipeline.model.streaming import require_streams
from flash_pipeline.model.trader import FlashAttentionTrader

_WARM_UP = 3
"""Passes before the capture: libraries choose their kernels and make their handles."""


class CapturedStream:
    """`stream` over series of one length without absent bars, captured once and replayed.

    The weights may be changed in place between calls: a replay reads them where they lie. It
    computes in the precision of the capture: make it under the caller's `torch.autocast`.

    Parameters
    ----------
    model : FlashAttentionTrader
        On a CUDA device, with a sliding span and rotary positions.
    n_bars : int
        T, at least 1. All of it is one pass: memory grows with it.

    Attributes
    ----------
    attention : BackendChoice
        What computes attention.

    Raises
    ------
    InvalidConfig
        If the model cannot stream, or lies on no CUDA device.
    InvalidInput
        If there is no bar.
    """

    def __init__(self, model: FlashAttentionTrader, n_bars: int) -> None:
        device = model.project.weight.device
        require_streams(model)
        if device.type != "cuda":
            raise InvalidConfig(f"the model is on {device}: expected a CUDA device for a graph")
        if n_bars < 1:
            raise InvalidInput(f"n_bars is {n_bars}: expected at least 1 bar")
        self._model = model
        self._x_1TI = torch.zeros(1, n_bars, model.config.input_dim, device=device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), evaluating(model), _uncached_autocast(device):
            self.attention = model.choose_attention(n_bars, has_mask=False)
            self._outputs_1TS = self._capture(self.attention)

    @torch.no_grad()
    def __call__(self, x_TI: Tensor) -> Tensor:
        """Return outputs_TS as `stream` does.

        Raises
        ------
        InvalidInput
            If the shape or dtype is not that of the capture.
        """
        self._model.check_input(x_TI[None], None)
        if len(x_TI) != self._x_1TI.shape[1]:
            raise InvalidInput(f"{len(x_TI)} bars: expected {self._x_1TI.shape[1]}, as captured")
        self._x_1TI[0].copy_(x_TI)
        self._model.announce(self.attention)
        self._graph.replay()
        return self._outputs_1TS[0].clone()  # the next replay writes over it

    def _capture(self, choice: BackendChoice) -> Tensor:
        def run() -> Tensor:
            return self._model.run(self._x_1TI, None, choice, every_bar=True)

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            return run()


def _uncached_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of the moment, whose casts of weights are part of the graph.

    One from autocast's cache would be freed, and hold yesterday's weights.
    """
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    dtype = torch.get_autocast_dtype(device.type)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)
