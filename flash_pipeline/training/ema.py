"""An average of the weights along the training: smoother than its last step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's parameters, kept and updated on their device.

        average <- d average + (1 - d) weights,   d = min(decay, (1 + n) / (10 + n))

    at the n-th update, so that the random start is soon forgotten. (Polyak and Juditsky 1992 for
    averaging; the ramp is that of TensorFlow's ExponentialMovingAverage.) An update waits for no
    device and allocates nothing that outlives it, so a CUDA graph can hold it.

    Parameters
    ----------
    model : nn.Module
        Whose parameters are averaged; they are the average's start.
    decay : float
        Share of the old average that an update keeps in the long run, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._names = [name for name, _ in model.named_parameters()]
        self._weights: list[Tensor] = list(model.parameters())
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._updates = torch.zeros((), device=self._weights[0].device)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights of the moment."""
        self._updates += 1
        keep = ((1 + self._updates) / (10 + self._updates)).clamp(max=self._decay)
        moves = torch._foreach_sub(self._weights, self._averages)
        torch._foreach_mul_(moves, 1 - keep)
        torch._foreach_add_(self._averages, moves)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the average for its weights inside the block, its own ones after it.

        Values are copied, so the addresses that a CUDA graph knows stay the same.
        """
        own = [weight.detach().clone() for weight in self._weights]
        with torch.no_grad():
            torch._foreach_copy_(self._weights, self._averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, own)

    def tensors(self) -> dict[str, Tensor]:
        """Return the live average by parameter name, and `updates`: what a checkpoint holds."""
        return {**dict(zip(self._names, self._averages, strict=True)), "updates": self._updates}
