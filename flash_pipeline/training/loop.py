"""The optimisation: passes over the windows, and the best weights by validation loss.

Shape letters: N windows, L bars, S symbols.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Never

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.model.sequence import SequenceModel
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.memory import memory_explained
from flash_pipeline.training.optimizer import cosine, make_optimizer, set_rate
from flash_pipeline.training.passes import outputs_of
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.runtime import determinism
from flash_pipeline.training.scaler import Floats
from flash_pipeline.training.source import BatchSource
from flash_pipeline.training.state import Epoch, TrainState
from flash_pipeline.training.step import make_step


@dataclass(frozen=True)
class Fitted:
    """What a training was like; the weights are the model's."""

    history: tuple[Epoch, ...]
    """One entry per pass."""
    attention: str
    """The attention of the training's steps, and why; an evaluation may take another."""
    form: str
    """How the steps ran: captured, or eager and why."""


def fit(
    model: SequenceModel,
    batches: BatchSource,
    train_N: npt.NDArray[np.int64],
    validation_N: npt.NDArray[np.int64],
    config: TrainConfig,
    *,
    epochs: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train a model in place and leave it with the weights of its best epoch.

    The learning rate follows `cosine`; gradients are clipped by their global norm (Pascanu et al.
    2013). All batches have the same size, which captured steps need: the windows of a pass beyond
    its last whole batch are left out, other ones in each pass. Where the weights are averaged,
    the averages are judged and kept. The loss judged is that of the last bar's prediction, which
    is the forecast to be made, whichever bars teach.

    Parameters
    ----------
    train_N, validation_N : array
        Positions of windows in the frame.
    epochs : int
        Passes over the training windows.
    on_epoch : callable
        Called after each epoch; on a resume first with the epochs done before.
    checkpoint : Checkpoint or None
        What to go on from, and where to write, whenever it is due, what a killed training goes
        on from. Losses and weights are then those of a training
        that was never interrupted, on a CPU bit for bit.

    Returns
    -------
    Fitted
        One epoch per pass.

    Raises
    ------
    TrainingDiverged
        If a loss becomes NaN or infinite; the message names the epoch and the step.
    OutOfMemory
        If a step, or a pass of the validation, does not fit the GPU; the message says what it
        was.
    AttentionUnsupported
        If the configured attention cannot run here.
    """
    with determinism(config.deterministic):
        training = _Training(model, batches, train_N, config, epochs, checkpoint)
        history = training.state.history
        for epoch in history:
            on_epoch(epoch)
        shown = None if progress else True  # None: in a terminal only
        total, done = training.steps * epochs, training.global_step
        with tqdm(total=total, initial=done, desc="training", unit="step", disable=shown) as bar:
            while len(history) < epochs:
                training.run_pass(bar)
                epoch = training.judge(validation_N)
                bar.set_postfix(train=epoch.train_loss, validation=epoch.validation_loss)
                on_epoch(epoch)
                training.save(epoch_over=True)
        if checkpoint is not None and checkpoint.of_several:
            checkpoint.write(training.state)
    model.load_state_dict(training.state.best)
    return Fitted(tuple(history), str(training.step.attention), training.step.form)


def evaluate(model: SequenceModel, batches: BatchSource, index_N: npt.NDArray[np.int64]) -> float:
    """Return the loss over windows, all at once, in the units of the head's loss, dropout off.

    Under dense supervision too, a window has one prediction: that of its last valid bar.

    Raises
    ------
    OutOfMemory
        If a pass does not fit the GPU.
    """
    outputs_NS = outputs_of(model, batches, index_N)
    y_NS = batches.labels(torch.from_numpy(index_N).to(batches.home))
    with torch.inference_mode():
        return model.loss(outputs_NS, y_NS).item()


def predict(
    model: FlashAttentionTrader, batches: BatchSource, index_N: npt.NDArray[np.int64]
) -> Floats:
    """Return the head's predictions [N, S] on scaled labels for windows of the frame.

    Raises
    ------
    OutOfMemory
        If a pass does not fit the GPU.
    """
    with torch.inference_mode():
        predictions_NS = model.head.predict(outputs_of(model, batches, index_N))
    return np.asarray(predictions_NS.float().cpu().numpy(), dtype=np.float32)


class _Training:
    """One training: its state, its step, and its way through the windows.

    Parameters
    ----------
    model, batches, train_N, config, epochs, checkpoint
        As for `fit`.
    """

    def __init__(
        self,
        model: SequenceModel,
        batches: BatchSource,
        train_N: npt.NDArray[np.int64],
        config: TrainConfig,
        epochs: int,
        checkpoint: Checkpoint | None,
    ) -> None:
        windows = min(config.windows_per_epoch or len(train_N), len(train_N))
        self.model, self.batches, self.config = model, batches, config
        self.checkpoint = checkpoint
        self.windows = torch.from_numpy(train_N)
        self.batch_size = min(config.batch_size, windows)
        self.steps = windows // self.batch_size
        self.total_steps = self.steps * epochs
        self.optimizer = make_optimizer(model, config)
        self.average = WeightAverage(model, config.ema_decay) if config.ema_decay else None
        self.state = TrainState(model, self.optimizer, self.average, self.steps, config.seed)
        if checkpoint is not None:
            checkpoint.resume(self.state)
        model.recompute = config.activation_checkpointing
        # After the resume: a captured step keeps what it finds.
        self.step = make_step(
            model, batches, self.optimizer, config, self.average, steps=self.total_steps
        )

    @property
    def global_step(self) -> int:
        """Steps done since the start."""
        return len(self.state.history) * self.steps + self.state.step

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return self.config.learning_rate * cosine(self.global_step, self.total_steps)

    def run_pass(self, bar: "tqdm[Never]") -> None:
        """Take the steps of a pass that are left; losses and norms stay on the device."""
        state = self.state
        drawn_N = self.windows[state.draw(len(self.windows), self.steps * self.batch_size)]
        parts = torch.split(drawn_N.to(self.batches.home), self.batch_size)
        self.model.train()
        with memory_explained(self.model, self.config, self.batches.lookback):
            for part in parts[state.step :]:
                set_rate(self.optimizer, self.rate)
                loss, norm = self.step(part)
                state.losses[state.step] = loss
                state.norms[state.step] = norm
                state.step += 1
                bar.update()
                self.save(epoch_over=False)

    def judge(self, validation_N: npt.NDArray[np.int64]) -> Epoch:
        """Validate after a pass, keep the weights if they are the best, and return its figures."""
        state, number = self.state, len(self.state.history) + 1
        losses, norms = state.losses.cpu(), state.norms.cpu()  # waits for the device, once a pass
        wrong = (~losses.isfinite()).nonzero().flatten().tolist()
        if wrong:
            step = wrong[0]
            raise _diverged(f"epoch {number}, step {step + 1} of {self.steps}", losses[step].item())
        rate = self.config.learning_rate * cosine(self.global_step - 1, self.total_steps)
        with nullcontext() if self.average is None else self.average.applied():
            judged = evaluate(self.model, self.batches, validation_N)
            if not math.isfinite(judged):
                raise _diverged(f"epoch {number}, validation after step {self.steps}", judged)
            epoch = Epoch(number, losses.mean().item(), judged, rate, norms.mean().item())
            state.close_pass(epoch)
        return epoch

    def save(self, *, epoch_over: bool) -> None:
        """Write the checkpoint, where one is kept and due."""
        if self.checkpoint is not None and self.checkpoint.due(epoch_over=epoch_over):
            self.checkpoint.write(self.state)


def _diverged(place: str, loss: float) -> TrainingDiverged:
    return TrainingDiverged(
        f"{place}: the loss is {loss}: expected a finite number; lower the learning rate"
    )
