"""Whether a mid price goes down, stays or goes up: what every model of a book predicts.

Shape letters: ... any leading axes, B batch rows, H horizons, K the three movements.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_pipeline.errors import InvalidInput

MOVEMENTS = ("down", "flat", "up")
"""Classes, in the order of the labels 0, 1, 2 and of the logits."""


def movement_loss(logits_HK: Tensor, label_H: Tensor) -> Tensor:
    """Return the mean cross-entropy over the known labels, a scalar in float32 or wider.

    Parameters
    ----------
    logits_HK : Tensor
        [..., H, 3].
    label_H : Tensor
        [..., H]: 0, 1 or 2; unknown where below 0 (integers) or NaN (floats), which do not count.

    Returns
    -------
    Tensor
        0, with zero gradients, where no label is known.

    Raises
    ------
    InvalidInput
        If the shapes do not fit.
    """
    if label_H.shape != logits_HK.shape[:-1] or logits_HK.shape[-1] != len(MOVEMENTS):
        raise InvalidInput(
            f"labels have the shape {tuple(label_H.shape)}, logits {tuple(logits_HK.shape)}: "
            f"expected [..., H] and [..., H, {len(MOVEMENTS)}]"
        )
    wide_HK = logits_HK.to(torch.promote_types(logits_HK.dtype, torch.float32))
    known_N = (label_H >= 0).flatten()
    target_N = label_H.flatten().where(known_N, 0).long()
    losses_N = F.cross_entropy(wide_HK.flatten(0, -2), target_N, reduction="none")
    return losses_N.where(known_N, 0.0).sum() / known_N.sum().clamp(min=1)


def probabilities(logits_HK: Tensor) -> Tensor:
    """Return the probabilities of down, flat and up, [..., H, 3]."""
    return logits_HK.softmax(-1)
