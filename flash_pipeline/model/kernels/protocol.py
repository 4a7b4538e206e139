"""What every attention kernel looks like, and what several of them share.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

from typing import Protocol

import torch
from torch import Tensor


class Kernel(Protocol):
    """Self-attention with the arguments of `attend`; inputs are checked by then."""

    def __call__(
        self,
        q_BTHD: Tensor,
        k_BTHD: Tensor,
        v_BTHD: Tensor,
        *,
        key_mask_BT: Tensor | None,
        causal: bool,
        window: int | None,
        dropout_p: float,
    ) -> Tensor:
        """Return o_BTHD."""


def visible(
    key_mask_BT: Tensor | None, causal: bool, window: int | None, like_BTHD: Tensor
) -> Tensor | None:
    """Return which keys each query sees, broadcastable to BHTT; None where it sees all.

    No row is left without a key, since a softmax over nothing is NaN, forward and backward.
    Absent queries are given keys to this end; their output is zeroed by `silence_absent`.
    """
    past_TT = _past(like_BTHD, window) if causal else None
    if key_mask_BT is None:
        return past_TT
    if past_TT is None:
        empty_B1 = ~key_mask_BT.any(1, keepdim=True)
        return (key_mask_BT | empty_B1)[:, None, None, :]
    itself_TT = torch.eye(like_BTHD.shape[1], dtype=torch.bool, device=past_TT.device)
    return ((key_mask_BT[:, None, :] & past_TT) | itself_TT)[:, None]


def silence_absent(o_BTHD: Tensor, key_mask_BT: Tensor | None) -> Tensor:
    """Return the outputs with zeros for absent tokens."""
    if key_mask_BT is None:
        return o_BTHD
    return o_BTHD.masked_fill(~key_mask_BT[:, :, None, None], 0.0)


def _past(like_BTHD: Tensor, window: int | None) -> Tensor:
    n_bars = like_BTHD.shape[1]
    past_TT = like_BTHD.new_ones(n_bars, n_bars, dtype=torch.bool).tril()
    return past_TT if window is None else past_TT.triu(1 - window)
