"""What every model of a sequence offers to its training, its evaluation and its benchmarks."""

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn

from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.config import AttentionName, SupervisionName


class SequenceConfig(Protocol):
    """What a training needs to know of a model's configuration."""

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""

    @property
    def d_ff(self) -> int:
        """Width of the MLP's hidden layer."""

    @property
    def n_heads(self) -> int:
        """Heads of attention."""

    @property
    def n_layers(self) -> int:
        """Blocks."""

    @property
    def dropout(self) -> float:
        """Probability of dropping."""

    @property
    def attention(self) -> AttentionName:
        """Attention backend."""

    @property
    def supervision(self) -> SupervisionName:
        """Whether every bar of a window has a target, or the last."""

    @property
    def head(self) -> str:
        """What is predicted; the loss of an `allocation` is no mean over its windows."""


class SequenceModel(nn.Module, abc.ABC):
    """A model that reads windows of bars and has a loss.

    Attributes
    ----------
    config : SequenceConfig
        Architecture.
    recompute : bool
        Whether the blocks' activations are computed again in the backward pass instead of kept
        (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). Off by default.
    tokens_per_bar : int
        Tokens that attention sees for each bar of a window.
    """

    config: SequenceConfig

    def __init__(self) -> None:
        super().__init__()
        self.recompute = False
        self.tokens_per_bar = 1
        self._choice: BackendChoice | None = None

    @abc.abstractmethod
    def run(
        self,
        x: Tensor,
        valid: Tensor | None,
        backend: AttentionName | BackendChoice,
        *,
        every_bar: bool,
    ) -> Tensor:
        """Return outputs of the last bar, or of every one, without looking at the input first."""

    @abc.abstractmethod
    def last_outputs(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return outputs of the last bar of each row, whatever the supervision."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss over the known targets, a scalar."""

    @abc.abstractmethod
    def choose_attention(self, length: int, has_mask: bool) -> BackendChoice:
        """Return the attention for windows of so many bars, in the mode of the moment."""

    def announce(self, choice: BackendChoice) -> None:
        """Record the attention that a caller of `run` has chosen."""
        self._choice = choice

    @property
    def n_parameters(self) -> int:
        """Number of trainable values."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off inside the block, and restore the training mode after it."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
