"""The flash-attn package, version 2: exact attention in O(T) memory (Dao 2023).

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size, N tokens of
all rows packed end to end.
"""

import importlib
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_pipeline.model.kernels.protocol import silence_absent

_FREE = (-1, -1)


def flash_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Run flash-attn's dense kernel, or the one for sequences of varying length under a mask.

    The dense kernel knows no key mask, so masked rows are packed without their absent tokens. A
    window then would count tokens in place of bars, and is refused with a mask.
    """
    package = flash_attn_package()
    deterministic = torch.are_deterministic_algorithms_enabled()
    if key_mask_BT is None:
        o: Tensor = package.flash_attn_func(
            q_BTHD,
            k_BTHD,
            v_BTHD,
            dropout_p,
            causal=causal,
            window_size=_FREE if window is None else (window - 1, 0),
            deterministic=deterministic,
        )
        return o
    present_N = key_mask_BT.flatten().nonzero().flatten()
    if present_N.numel() == 0:  # the kernel refuses an empty pack; zeros keep their gradient
        return silence_absent(q_BTHD + k_BTHD + v_BTHD, key_mask_BT)
    q_NHD, k_NHD, v_NHD = (x.flatten(0, 1)[present_N] for x in (q_BTHD, k_BTHD, v_BTHD))
    starts = F.pad(key_mask_BT.sum(1).cumsum(0), (1, 0)).to(torch.int32)
    longest = q_BTHD.shape[1]  # a bound is enough, and the true maximum would wait for the GPU
    o_NHD = package.flash_attn_varlen_func(
        q_NHD,
        k_NHD,
        v_NHD,
        starts,
        starts,
        longest,
        longest,
        dropout_p,
        causal=causal,
        deterministic=deterministic,
    )
    o_all_NHD = torch.zeros_like(q_BTHD).flatten(0, 1).index_copy(0, present_N, o_NHD)
    return o_all_NHD.view_as(q_BTHD)


def flash_attn_package() -> ModuleType:
    """Import flash-attn 2, on first use only.

    Raises
    ------
    ImportError
        If it is not installed, or was built for another torch or CUDA.
    """
    package = importlib.import_module("flash_attn")
    if not hasattr(package, "flash_attn_func"):  # flash-attn 4 alone leaves a bare namespace
        raise ImportError("flash_attn holds no flash_attn_func: expected flash-attn 2")
    return package
