"""Everything that changes while a portfolio model is trained: what a checkpoint must bring back."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.optimizer import moments_of
from flash_pipeline.training.runtime import random_states, restore_random


@dataclass(frozen=True)
class Look:
    """One look at the validation range."""

    step: int
    """Steps done."""
    train_loss: float
    """Mean loss of the steps since the look before."""
    validation_loss: float
    """Loss of the validation range: for the Sharpe objective minus the hourly ratio, net."""


class PortfolioState:
    """A training at a step boundary.

    Parameters
    ----------
    model : PortfolioModel
        With the weights of the start.
    optimizer : torch.optim.Optimizer
        Its state made: see `make_moments`.
    validate_every : int
        Steps between two looks, at least 1.
    seed : int
        Of the windows drawn.
    """

    def __init__(
        self,
        model: PortfolioModel,
        optimizer: torch.optim.Optimizer,
        validate_every: int,
        seed: int,
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.device = next(model.parameters()).device
        self.history: list[Look] = []
        self.step = 0  # steps done since the start
        self.attention = ""  # as the newest look found it
        self.losses = torch.zeros(validate_every, device=self.device)  # since the look before
        self.drawn = torch.Generator().manual_seed(seed)
        self.best = {name: value.clone() for name, value in model.state_dict().items()}

    @property
    def place(self) -> str:
        """How far the training is, in words."""
        return f"after step {self.step}"

    def draw(self, starts: int, size: int) -> list[int]:
        """Return the places of a step's windows, the same after a resume.

        Parameters
        ----------
        starts : int
            Windows to choose from.
        size : int
            Windows of a step.
        """
        drawn = torch.randint(starts, (size,), generator=self.drawn)
        return [int(place) for place in drawn]

    def close_step(self, loss: Tensor) -> None:
        """Count a step and keep its loss, on the device."""
        self.losses[self.step % len(self.losses)] = loss
        self.step += 1

    def look(self, validation_loss: float) -> None:
        """Keep the model's weights if they are the best, and note the look.

        Raises
        ------
        TrainingDiverged
            If a loss is NaN or infinite.
        """
        steps = (self.step - 1) % len(self.losses) + 1
        look = Look(self.step, self.losses[:steps].mean().item(), validation_loss)
        if not math.isfinite(look.train_loss + look.validation_loss):
            raise TrainingDiverged(
                f"the loss is {look.train_loss} at step {look.step}, "
                f"{look.validation_loss} on the validation range: expected numbers"
            )
        least = min((each.validation_loss for each in self.history), default=math.inf)
        if look.validation_loss < least:
            for name, value in self.model.state_dict().items():
                self.best[name].copy_(value)
        self.history.append(look)
        self.attention = str(self.model.attention_choice)

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the state by name, live: who writes into them restores it."""
        named = {f"weights/{name}": value for name, value in self.model.state_dict().items()}
        named |= moments_of(self.model, self.optimizer)
        named |= {f"best/{name}": value for name, value in self.best.items()}
        return named | {"losses": self.losses}

    def random_states(self) -> dict[str, Tensor]:
        """Return copies of the states of all random generators."""
        return {"random/drawn": self.drawn.get_state(), **random_states(self.device)}

    def counters(self) -> dict[str, Any]:
        """Return what is no tensor, fit for JSON."""
        history = [dataclasses.asdict(look) for look in self.history]
        return {"step": self.step, "history": history, "attention": self.attention}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Take over a state, in place.

        Parameters
        ----------
        tensors, counters : mapping
            Of `tensors` and `random_states`, of `counters`; names, shapes and dtypes checked.
        """
        for name, value in self.tensors().items():
            value.copy_(tensors[name])
        self.drawn.set_state(tensors["random/drawn"])
        restore_random(self.device, tensors)
        self.step, self.attention = counters["step"], counters["attention"]
        self.history = [Look(**each) for each in counters["history"]]
