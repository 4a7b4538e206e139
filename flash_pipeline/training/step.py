"""One step of the optimisation, eager or compiled and captured as a CUDA graph.

Shape letters: N windows of a step, M windows of a micro-batch, L bars, S symbols, I inputs.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.windows.dataset import WindowBatches

Loss = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""From inputs, mask and labels of a micro-batch to its loss."""


class TrainStep(Protocol):
    """Moves the weights once."""

    def __call__(self, index_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm of a step on these windows.

        Parameters
        ----------
        index_N : Tensor
            Positions of windows in the frame, int64, on the batches' `home`.

        Returns
        -------
        loss, norm : Tensor
            Scalars on the model's device, detached, which nothing has waited for: the mean loss
            of the micro-batches before the step, and the gradient's norm before clipping.
        """
        ...


class EagerStep:
    """A step that runs kernel by kernel.

    Parameters
    ----------
    model : FlashAttentionTrader
        In training mode when called; its weights are moved in place.
    batches : WindowBatches
        Where the windows come from.
    optimizer : torch.optim.Optimizer
        Its learning rate is set by the caller.
    config : TrainConfig
        Micro-batches and clipping.
    average : WeightAverage or None
        Moved after the weights.
    loss : callable or None
        None for `window_loss` of the model.
    """

    def __init__(
        self,
        model: FlashAttentionTrader,
        batches: WindowBatches,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        average: WeightAverage | None = None,
        loss: Loss | None = None,
    ) -> None:
        self._model = model
        self._batches = batches
        self._optimizer = optimizer
        self._config = config
        self._average = average
        self._loss = window_loss(model) if loss is None else loss
        self._weights = list(model.parameters())

    def __call__(self, index_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm of a step on these windows."""
        loss = self.differentiate(index_N)
        return loss, self.move()

    def differentiate(self, index_N: Tensor) -> Tensor:
        """Leave the gradients of the mean loss over the micro-batches, and return that loss."""
        self._optimizer.zero_grad(set_to_none=True)
        parts = index_N.chunk(self._config.accumulation)
        dense = self._model.config.supervision == "dense"
        total: Tensor | None = None
        for x_MLI, valid_ML, y_MS in self._batches.batches(parts, dense=dense):
            loss = self._loss(x_MLI, valid_ML, y_MS) / len(parts)
            torch.autograd.backward(loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def move(self) -> Tensor:
        """Clip the gradients, move weights and average, and return the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._weights, self._config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return norm.detach()


def window_loss(model: FlashAttentionTrader, backend: BackendChoice | None = None) -> Loss:
    """Return the function from a micro-batch to its loss, under autocast on a GPU.

    Parameters
    ----------
    model : FlashAttentionTrader
        The model.
    backend : BackendChoice or None
        Attention, chosen beforehand: then nothing is checked or chosen in the call, so that it
        can be compiled and captured. None lets the model check and choose at each call.
    """
    device = model.project.weight.device
    dense = model.config.supervision == "dense"

    def loss(x_MLI: Tensor, valid_ML: Tensor | None, y_MS: Tensor) -> Tensor:
        with autocast(device):
            if backend is None:
                outputs_MS = model(x_MLI, valid_ML)
            else:
                outputs_MS = model.run(x_MLI, valid_ML, backend, every_bar=dense)
            return model.loss(outputs_MS, y_MS)

    return loss


def make_step(
    model: FlashAttentionTrader,
    batches: WindowBatches,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    average: WeightAverage | None = None,
) -> TrainStep:
    """Return the fastest step that the configuration allows here.

    Compiled and captured as one CUDA graph where `config.compile` says so, the panel is on the
    GPU and has no gap (a mask makes shapes depend on data); eager otherwise.
    """
    from flash_pipeline.training.captured import CapturedStep, can_capture

    if config.compile and can_capture(model, batches):
        return CapturedStep(model, batches, optimizer, config, average)
    return EagerStep(model, batches, optimizer, config, average)
