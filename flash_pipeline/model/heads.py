"""What the model predicts, and the loss that teaches it.

Shape letters: B batch rows, C model width, S symbols.

Targets are forward log returns over the horizon, for every head; NaN where the return is not
known (a missing candle, a future that has not come), and such entries do not count in any loss.
"""

import abc

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.config import HeadName

HEAD_GAIN = 0.01
"""Gain of the head's Xavier initialisation.

The head reads a normalised vector, so a gain of 1 would start with outputs of about 1, a hundred
times a day's return; this starts them near 0.01: a small return, an even chance, no position.
"""


class Head(nn.Module, abc.ABC):
    """A linear map from the last bar's state to one output per symbol, with its loss.

    Parameters
    ----------
    d_model : int
        Width of the state.
    n_outputs : int
        Symbols.
    """

    def __init__(self, d_model: int, n_outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_model, n_outputs)

    def forward(self, h_BC: Tensor) -> Tensor:
        """Return the outputs_BS that `loss` and `predict` take."""
        outputs_BS: Tensor = self.linear(h_BC)
        return outputs_BS

    def loss(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        """Return the mean loss over the known targets, a scalar in float32 or wider.

        Parameters
        ----------
        outputs_BS : Tensor
            Of `forward`.
        targets_BS : Tensor
            Forward log returns; NaN entries do not count. An infinite one does, and makes the
            loss infinite or NaN for the training loop to see.

        Returns
        -------
        Tensor
            Scalar; 0, with zero gradients, where no target is known.

        Raises
        ------
        InvalidInput
            If the shapes differ.
        """
        if outputs_BS.shape != targets_BS.shape:
            raise InvalidInput(
                f"targets have the shape {tuple(targets_BS.shape)}: "
                f"expected that of the outputs, {tuple(outputs_BS.shape)}"
            )
        known_BS = ~targets_BS.isnan()
        outputs_BS = outputs_BS.to(torch.promote_types(outputs_BS.dtype, torch.float32))
        targets_BS = targets_BS.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
        losses_BS = self._losses(outputs_BS, targets_BS.to(outputs_BS.dtype))
        return losses_BS.where(known_BS, 0.0).sum() / known_BS.sum().clamp(min=1)

    def predict(self, outputs_BS: Tensor) -> Tensor:
        """Return the predictions_BS that the outputs stand for, in the unit of the head."""
        return outputs_BS

    @abc.abstractmethod
    def _losses(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        """Return the loss of each entry; targets are free of NaN."""


class RegressionHead(Head):
    """Predicts the forward log return itself; taught by the squared error."""

    def _losses(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        return (outputs_BS - targets_BS).square()


class DirectionHead(Head):
    """Predicts the probability of a rise; taught by the binary cross-entropy.

    Outputs are logits. A return of exactly 0 is no rise.
    """

    def predict(self, outputs_BS: Tensor) -> Tensor:
        """Return the probability of a rise, in [0, 1]."""
        return outputs_BS.sigmoid()

    def _losses(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        rises_BS = (targets_BS > 0).to(outputs_BS.dtype)
        return F.binary_cross_entropy_with_logits(outputs_BS, rises_BS, reduction="none")


class AllocationHead(Head):
    """Predicts a weight in [-1, 1] per symbol; taught to maximise weight times return.

    The loss is the mean of -w y: no term for costs, turnover or risk, so its optimum is a full
    position, long or short, wherever the expected return is not zero. Weights are per symbol;
    nothing bounds their sum.
    """

    def forward(self, h_BC: Tensor) -> Tensor:
        """Return the weights, in [-1, 1]."""
        return super().forward(h_BC).tanh()

    def _losses(self, outputs_BS: Tensor, targets_BS: Tensor) -> Tensor:
        return -outputs_BS * targets_BS


HEADS: dict[HeadName, type[Head]] = {
    "regression": RegressionHead,
    "direction": DirectionHead,
    "allocation": AllocationHead,
}
"""Head of each name in `ModelConfig.head`."""
