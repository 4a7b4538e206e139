"""Everything that changes while a model is trained: what a checkpoint must bring back."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flash_pipeline.model.sequence import SequenceModel
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.optimizer import moments_of
from flash_pipeline.training.runtime import random_states, restore_random


@dataclass(frozen=True)
class Epoch:
    """Figures of one pass over the training windows."""

    number: int
    """From 1."""
    train_loss: float
    """Mean over the pass; the head's loss on scaled labels, dropout on."""
    validation_loss: float
    """After the pass, over the validation windows that it is judged by, dropout off; of the
    averaged weights where they are kept."""
    learning_rate: float
    """Of the pass's last step."""
    gradient_norm: float
    """Mean over the pass, before clipping."""


class TrainState:
    """A training at a step boundary.

    Parameters
    ----------
    model : SequenceModel
        With the weights of the start.
    optimizer : torch.optim.Optimizer
        Of `make_optimizer`.
    average : WeightAverage or None
        Of the weights.
    steps : int
        Steps of a pass.
    seed : int
        Of the order of windows.
    """

    def __init__(
        self,
        model: SequenceModel,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        steps: int,
        seed: int,
    ) -> None:
        self.model, self.optimizer, self.average = model, optimizer, average
        self.device = next(model.parameters()).device
        self.history: list[Epoch] = []
        self.step = 0  # steps done of the pass that follows the history
        # Filled on the device and read once per pass, so that no step waits for the GPU.
        self.losses = torch.zeros(steps, device=self.device)
        self.norms = torch.zeros(steps, device=self.device)
        self.order = torch.Generator().manual_seed(seed)
        self.pass_order = self.order.get_state()
        self.best = {name: value.clone() for name, value in model.state_dict().items()}

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far; infinite before the first."""
        return min((epoch.validation_loss for epoch in self.history), default=math.inf)

    @property
    def place(self) -> str:
        """How far the training is, in words."""
        return f"after epoch {len(self.history)}, step {self.step}"

    def draw(self, count: int, size: int) -> Tensor:
        """Return the places of a pass's windows in random order, the same after a resume.

        Parameters
        ----------
        count : int
            Windows to choose from.
        size : int
            Windows of the pass.
        """
        self.order.set_state(self.pass_order)
        return torch.randperm(count, generator=self.order)[:size]

    def close_pass(self, epoch: Epoch) -> None:
        """Keep the model's weights if they are the best, and go on to the next pass."""
        if epoch.validation_loss < self.best_loss:
            for name, value in self.model.state_dict().items():
                self.best[name].copy_(value)
        self.history.append(epoch)
        self.step = 0
        self.pass_order = self.order.get_state()

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state by name, live: who writes into them restores it."""
        named = {f"weights/{name}": value for name, value in self.model.state_dict().items()}
        named |= moments_of(self.model, self.optimizer)
        if self.average is not None:
            named |= {f"average/{name}": value for name, value in self.average.tensors().items()}
        named |= {f"best/{name}": value for name, value in self.best.items()}
        return named | {"losses": self.losses, "norms": self.norms}

    def random_states(self) -> dict[str, Tensor]:
        """Return copies of the states of all random generators."""
        return {"random/order": self.pass_order, **random_states(self.device)}

    def counters(self) -> dict[str, Any]:
        """Return what is no tensor, fit for JSON."""
        history = [dataclasses.asdict(epoch) for epoch in self.history]
        return {"step": self.step, "history": history}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take over a state; in place, since a captured step knows the tensors' addresses.

        Parameters
        ----------
        tensors, counters : mapping
            Of `tensors` and `random_states`, of `counters`; names, shapes and dtypes checked.
        """
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
        self.pass_order = tensors["random/order"]
        restore_random(self.device, tensors)
        self.step = counters["step"]
        self.history = [Epoch(**each) for each in counters["history"]]
