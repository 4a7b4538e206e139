"""One step of the optimisation, eager or compiled and captured as a CUDA graph.

Shape letters: N windows of a step, M windows of a micro-batch, L bars, S symbols, I inputs.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.sequence import SequenceModel
from flash_pipeline.training.bundle import autocast
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.source import BatchSource

Loss = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""From inputs, mask and labels of a micro-batch to its loss."""


CAPTURE_FROM = 1_500
"""Steps of a training from which on capturing them pays: compiling took 4 to 16 s on an H200 and
saves about 8 ms a step, so that 500 to 2,000 steps make up for it."""

EAGER = "eager: asked for"
"""Form of an eager step that nothing was against capturing."""

_log = logging.getLogger(__name__)


class TrainStep(Protocol):
    """Moves the weights once."""

    @property
    def form(self) -> str:
        """How it runs: `captured`, or `eager:` and why."""
        ...

    @property
    def attention(self) -> BackendChoice:
        """The attention of all steps, chosen once."""
        ...

    def __call__(self, index_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm of a step on these windows.

        Parameters
        ----------
        index_N : Tensor
            Positions of windows in the frame, int64, on the batches' `home`.

        Returns
        -------
        loss, norm : Tensor
            Scalars on the model's device, detached, which nothing has waited for: the loss of
            these windows before the step, and the gradient's norm before clipping.
        """
        ...


class EagerStep:
    """A step that runs kernel by kernel.

    Parameters
    ----------
    model : SequenceModel
        In training mode when called; its weights are moved in place.
    batches : BatchSource
        Where the windows come from.
    optimizer : torch.optim.Optimizer
        Its learning rate is set by the caller.
    config : TrainConfig
        Micro-batches and clipping.
    average : WeightAverage or None
        Moved after the weights.
    loss : callable or None
        None for `window_loss` of the model.
    form : str
        What it calls itself.

    Raises
    ------
    AttentionUnsupported
        If the configured attention cannot run here.
    """

    def __init__(
        self,
        model: SequenceModel,
        batches: BatchSource,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        average: WeightAverage | None = None,
        loss: Loss | None = None,
        form: str = EAGER,
    ) -> None:
        self._model = model
        self._batches = batches
        self._optimizer = optimizer
        self._config = config
        self._average = average
        self.form = form
        self.attention = step_attention(model, batches)
        self._loss = window_loss(model, self.attention) if loss is None else loss
        self._weights = list(model.parameters())

    def __call__(self, index_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and gradient norm of a step on these windows."""
        loss = self.differentiate(index_N)
        return loss, self.move()

    def differentiate(self, index_N: Tensor) -> Tensor:
        """Leave the gradients of the loss of these windows, and return that loss.

        A micro-batch's loss is the mean over its known labels, so it counts by their number: sums
        are differentiated, and divided by all labels at the end. The result is that of the whole
        batch, however unlike the micro-batches are.
        """
        self._optimizer.zero_grad(set_to_none=True)
        parts = index_N.chunk(self._config.accumulation)
        dense = self._model.config.supervision == "dense"
        micro_batches = self._batches.batches(parts, dense=dense)
        if len(parts) == 1:
            loss = self._loss(*next(micro_batches))
            torch.autograd.backward(loss)
            return loss.detach()
        total = torch.zeros((), device=self._batches.device)
        labels = torch.zeros_like(total, dtype=torch.int64)
        for x_MLI, valid_ML, y_MS in micro_batches:
            known = (~y_MS.isnan()).sum()
            loss = self._loss(x_MLI, valid_ML, y_MS) * known
            torch.autograd.backward(loss)
            total, labels = total + loss.detach(), labels + known
        share = 1 / labels.clamp(min=1)
        torch._foreach_mul_([w.grad for w in self._weights if w.grad is not None], share)
        return total * share

    def move(self) -> Tensor:
        """Clip the gradients, move weights and average, and return the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self._weights, self._config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return norm.detach()


def step_attention(model: SequenceModel, batches: BatchSource) -> BackendChoice:
    """Choose the attention of all training steps, and record it with the model.

    One choice holds for all: the windows have one length, and come with a mask or without one.
    """
    was_training = model.training
    model.train()  # dropout decides what a backend must honour
    with autocast(batches.device):
        choice = model.choose_attention(batches.lookback, batches.has_gaps)
    model.train(was_training)
    model.announce(choice)
    return choice


def window_loss(model: SequenceModel, backend: BackendChoice) -> Loss:
    """Return the function from a micro-batch to its loss, under autocast on a GPU.

    Nothing is checked or chosen in the call, and nothing waits for the GPU, so that it can be
    compiled and captured; a mask is taken as it is.

    Parameters
    ----------
    model : SequenceModel
        The model.
    backend : BackendChoice
        Of `step_attention`.
    """
    device = next(model.parameters()).device
    dense = model.config.supervision == "dense"

    def loss(x_MLI: Tensor, valid_ML: Tensor | None, y_MS: Tensor) -> Tensor:
        with autocast(device):
            outputs_MS = model.run(x_MLI, valid_ML, backend, every_bar=dense)
            return model.loss(outputs_MS, y_MS)

    return loss


def make_step(
    model: SequenceModel,
    batches: BatchSource,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    average: WeightAverage | None = None,
    *,
    steps: int | None = None,
) -> TrainStep:
    """Return the fastest step that the configuration allows here, and log its form.

    Parameters
    ----------
    model, batches, optimizer, config, average
        As for `EagerStep`, errors too.
    steps : int or None
        Steps of the whole training, those before a resume included, so that it goes on in the
        form that it began in; under `compile="auto"` fewer than `CAPTURE_FROM` stay eager. None:
        as many as it takes.
    """
    from flash_pipeline.training.captured import CapturedStep

    why = _eager_because(model, batches, config, steps)
    step: TrainStep
    if why is None:
        step = CapturedStep(model, batches, optimizer, config, average)
    else:
        step = EagerStep(model, batches, optimizer, config, average, form=f"eager: {why}")
    _log.info("training steps: %s", step.form)
    return step


def _eager_because(
    model: SequenceModel, batches: BatchSource, config: TrainConfig, steps: int | None
) -> str | None:
    """Return why steps are not captured, None where they are."""
    from flash_pipeline.training.captured import capture_refusal

    if config.compile is False:
        return "compile is False"
    refusal = capture_refusal(model, batches)
    if refusal is None and config.compile == "auto" and steps is not None and steps < CAPTURE_FROM:
        return f"{steps} steps, expected {CAPTURE_FROM} or more for a capture to pay"
    return refusal
