"""The whole step as one CUDA graph over compiled kernels: one launch in place of hundreds.

A small model's step is bound by launches and by memory traffic between kernels. `torch.compile`
fuses the latter away; the graph (Gray 2019, "Getting Started with CUDA Graphs") replays everything
from the cutting of the batch to the weights' average without Python.

Shape letters: N windows of a step, L bars, I inputs, S symbols.
"""

import warnings

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.refusals import compiler_refusal
from flash_pipeline.model.sequence import SequenceModel
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.source import BatchSource
from flash_pipeline.training.step import EagerStep, Loss, step_attention, window_loss

_WARM_UP = 3
"""Passes before the capture: kernels are compiled, libraries choose theirs and make handles."""

_OPAQUE = frozenset({"flash_attn", "flash_attn_4", "sdpa_cudnn", "sdpa_flash", "sdpa_efficient"})
"""Backends that the compiler takes as one operator each."""


class CapturedStep:
    """A step that is compiled and captured at its first call, and replayed from then on.

    All calls take the same number of windows. Weights, optimizer state and learning rate stay
    where they were at the capture, so they are changed in place only; `set_rate` does.

    Parameters
    ----------
    model, batches, optimizer, config, average
        As for `EagerStep`; the optimizer's state must exist, on the GPU (`make_optimizer`).
    """

    def __init__(
        self,
        model: SequenceModel,
        batches: BatchSource,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        average: WeightAverage | None = None,
    ) -> None:
        self.form = "captured"
        self.attention = step_attention(model, batches)
        loss = compiled_loss(model, self.attention)
        self._eager = EagerStep(model, batches, optimizer, config, average, loss)
        self._graph = torch.cuda.CUDAGraph()
        self._index_N: Tensor | None = None
        self._results: tuple[Tensor, Tensor] | None = None

    def __call__(self, index_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm of a step on these windows.

        Raises
        ------
        InvalidInput
            If the number of windows is not that of the first call.
        """
        if self._index_N is None:
            self._capture(index_N)
        assert self._index_N is not None
        assert self._results is not None
        if index_N.shape != self._index_N.shape:
            raise InvalidInput(
                f"a step of {len(index_N)} windows: expected {len(self._index_N)}, as captured"
            )
        self._index_N.copy_(index_N)
        self._graph.replay()
        loss, norm = self._results
        return loss.clone(), norm.clone()  # the next replay writes over them

    def _capture(self, index_N: Tensor) -> None:
        """Warm up without moving anything, then record one step; recording runs nothing."""
        self._index_N = index_N.clone()
        random_state = torch.cuda.get_rng_state()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._eager.differentiate(self._index_N)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.set_rng_state(random_state)
        with torch.cuda.graph(self._graph):
            loss = self._eager.differentiate(self._index_N)
            self._results = (loss, self._eager.move())


def compiled_loss(model: SequenceModel, backend: BackendChoice) -> Loss:
    """Return the model's loss with its attention chosen, compiled for one shape."""
    compiled: Loss = torch.compile(window_loss(model, backend), dynamic=False)

    def loss(x_MLI: Tensor, valid_ML: Tensor | None, y_MS: Tensor) -> Tensor:
        with warnings.catch_warnings():
            # Of the compiler's own choices; there is nothing for a user to do about them.
            warnings.filterwarnings("ignore", module=r"torch\.")
            return compiled(x_MLI, valid_ML, y_MS)

    return loss


def capture_refusal(model: SequenceModel, batches: BatchSource) -> str | None:
    """Return why a step on these batches cannot be captured; None where it can.

    Captured is what lies on the GPU, has no masked bar (packing rows under a mask makes shapes
    depend on data) and computes attention by a kernel that the compiler takes as one operator.

    Raises
    ------
    AttentionUnsupported
        If the configured attention cannot run here.
    """
    if batches.device.type != "cuda":
        return f"the device is {batches.device}"
    if not batches.resident:
        return "the panel does not fit the GPU"
    if batches.has_gaps:
        lacking = "bar lacks every symbol" if model.tokens_per_bar == 1 else "token is absent"
        return f"some {lacking}, so that windows are masked"
    name = step_attention(model, batches).name
    if name not in _OPAQUE:
        return f"the attention is {name}: expected one of {', '.join(sorted(_OPAQUE))}"
    return compiler_refusal()
