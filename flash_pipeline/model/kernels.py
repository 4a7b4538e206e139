"""The attention kernels, one function each; `model.attention` alone calls them.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size, N tokens of
all rows packed end to end.

Every kernel honours all of its arguments and the same contract: where `key_mask_BT` is False
the token is absent, so no query sees it and its own output is zero.
"""

import importlib
import math
from types import ModuleType
from typing import Protocol

import torch
import torch.nn.functional as F
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
        dropout_p: float,
    ) -> Tensor:
        """Return o_BTHD."""


def reference_attention(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None = None,
    causal: bool = False,
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
    seen = _visible(key_mask_BT, causal, q_BTHD)
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
    dropout_p: float,
) -> Tensor:
    """Return the output of `reference_attention`, without its weights."""
    o_BTHD, _ = reference_attention(
        q_BTHD, k_BTHD, v_BTHD, key_mask_BT=key_mask_BT, causal=causal, dropout_p=dropout_p
    )
    return o_BTHD


def sdpa_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    dropout_p: float,
) -> Tensor:
    """Run PyTorch's scaled_dot_product_attention, which picks cuDNN, flash, efficient or math.

    A key mask costs O(B T) memory, a causal key mask O(B T²): PyTorch takes either its causal
    flag or a mask.
    """
    seen = None if key_mask_BT is None else _visible(key_mask_BT, causal, q_BTHD)
    o_BHTD = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BTHD.transpose(1, 2),
        v_BTHD.transpose(1, 2),
        attn_mask=seen,
        dropout_p=dropout_p,
        is_causal=causal and seen is None,
    )
    return _silence_absent(o_BHTD.transpose(1, 2), key_mask_BT)


def flash_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    dropout_p: float,
) -> Tensor:
    """Run the flash-attn package: exact attention in O(T) memory (Dao 2022, 2023).

    Its dense kernel knows no key mask, so masked rows are packed without their absent tokens
    and go through the kernel for sequences of varying length.
    """
    package = flash_attn_package()
    if key_mask_BT is None:
        o: Tensor = package.flash_attn_func(q_BTHD, k_BTHD, v_BTHD, dropout_p, causal=causal)
        return o
    present_N = key_mask_BT.flatten().nonzero().flatten()
    if present_N.numel() == 0:  # the kernel refuses an empty pack; zeros keep their gradient
        return _silence_absent(q_BTHD + k_BTHD + v_BTHD, key_mask_BT)
    q_NHD, k_NHD, v_NHD = (x.flatten(0, 1)[present_N] for x in (q_BTHD, k_BTHD, v_BTHD))
    starts = F.pad(key_mask_BT.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    longest = q_BTHD.shape[1]  # a bound is enough, and the true maximum would wait for the GPU
    o_NHD = package.flash_attn_varlen_func(
        q_NHD, k_NHD, v_NHD, starts, starts, longest, longest, dropout_p, causal=causal
    )
    o_all_NHD = torch.zeros_like(q_BTHD).flatten(0, 1).index_copy(0, present_N, o_NHD)
    return o_all_NHD.view_as(q_BTHD)


def flash_attn_package() -> ModuleType:
    """Import flash-attn, on first use only.

    Raises
    ------
    ImportError
        If it is not installed, or was built for another torch or CUDA.
    """
    return importlib.import_module("flash_attn")


def _visible(key_mask_BT: Tensor | None, causal: bool, like_BTHD: Tensor) -> Tensor | None:
    """Return which keys each query sees, broadcastable to BHTT; None where it sees all.

    No row is left without a key, since a softmax over nothing is NaN, forward and backward.
    Absent queries are given keys to this end; their output is zeroed afterwards.
    """
    n_bars = like_BTHD.shape[1]
    past = like_BTHD.new_ones(n_bars, n_bars, dtype=torch.bool).tril() if causal else None
    if key_mask_BT is None:
        return past
    if past is None:
        empty_B1 = ~key_mask_BT.any(1, keepdim=True)
        return (key_mask_BT | empty_B1)[:, None, None, :]
    itself = torch.eye(n_bars, dtype=torch.bool, device=past.device)
    return ((key_mask_BT[:, None, :] & past) | itself)[:, None]


def _silence_absent(o_BTHD: Tensor, key_mask_BT: Tensor | None) -> Tensor:
    if key_mask_BT is None:
        return o_BTHD
    return o_BTHD.masked_fill(~key_mask_BT[:, :, None, None], 0.0)
