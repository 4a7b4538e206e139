"""Softmax attention as written: what every other kernel is held against.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_pipeline.model.kernels.protocol import visible


def reference_attention(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Compute softmax(q kᵀ / sqrt(D)) v as written, in float32: slow, and O(T²) in memory.

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD : Tensor
        Queries, keys and values. float64 stays float64; narrower dtypes are widened to float32.
    key_mask_BT : Tensor of bool, optional
        False where a token is absent.
    causal : bool
        Whether a query sees only the keys up to its own bar.
    window : int, optional
        Bars that a query sees, its own included; with `causal` only.
    dropout_p : float
        Probability of dropping a weight, in [0, 1).

    Returns
    -------
    o_BTHD : Tensor
        In the dtype of `q_BTHD`; zeros for absent tokens.
    weights_BHTT : Tensor
        Weight of each key (last axis) for each query, before dropout, so that the rows of
        present tokens sum to 1; rows of absent tokens are zeros. float32, or float64.

    Notes
    -----
    Equation 1 of Vaswani et al. 2017, "Attention Is All You Need".
    """
    wide = torch.promote_types(q_BTHD.dtype, torch.float32)
    q_BHTD, k_BHTD, v_BHTD = (x.transpose(1, 2).to(wide) for x in (q_BTHD, k_BTHD, v_BTHD))
    scores_BHTT = q_BHTD @ k_BHTD.transpose(-2, -1) / math.sqrt(q_BTHD.shape[-1])
    seen = visible(key_mask_BT, causal, window, q_BTHD)
    if seen is not None:
        scores_BHTT = scores_BHTT.masked_fill(~seen, -math.inf)
    weights_BHTT = scores_BHTT.softmax(-1)
    if key_mask_BT is not None:
        weights_BHTT = weights_BHTT.masked_fill(~key_mask_BT[:, None, :, None], 0.0)
    o_BHTD = F.dropout(weights_BHTT, dropout_p) @ v_BHTD
    return o_BHTD.transpose(1, 2).to(q_BTHD.dtype), weights_BHTT


def reference_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Return the output of `reference_attention`, without its weights."""
    o_BTHD, _ = reference_attention(
        q_BTHD,
        k_BTHD,
        v_BTHD,
        key_mask_BT=key_mask_BT,
        causal=causal,
        window=window,
        dropout_p=dropout_p,
    )
    return o_BTHD
