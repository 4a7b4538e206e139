"""PyTorch's FlexAttention: windows and masks together, in O(T) memory, by a compiled kernel.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from flash_pipeline.model.kernels.protocol import silence_absent


def flex_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Run FlexAttention (Dong et al. 2024) on the blocks of keys that the span leaves.

    Dropout is refused before. Rows in which nothing is visible give zeros.
    """
    assert dropout_p == 0
    n_rows, n_bars = q_BTHD.shape[:2]
    blocks = (
        _span_blocks(n_bars, causal, window, q_BTHD.device)
        if key_mask_BT is None
        else _blocks(key_mask_BT, causal, window, n_rows, n_bars, q_BTHD.device)
    )
    o_BHTD = _compiled()(
        q_BTHD.transpose(1, 2), k_BTHD.transpose(1, 2), v_BTHD.transpose(1, 2), block_mask=blocks
    )
    return silence_absent(o_BHTD.transpose(1, 2), key_mask_BT)


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False)
    return compiled


@functools.cache
def _mask_maker() -> Callable[..., BlockMask]:
    maker: Callable[..., BlockMask] = torch.compile(create_block_mask, dynamic=False)
    return maker  # uncompiled, it would form the whole T x T mask


@functools.lru_cache(maxsize=32)
def _span_blocks(
    n_bars: int, causal: bool, window: int | None, device: torch.device
) -> BlockMask | None:
    if not causal:
        return None
    return _blocks(None, causal, window, None, n_bars, device)


def _blocks(
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    n_rows: int | None,
    n_bars: int,
    device: torch.device,
) -> BlockMask:
    def seen(b: Any, _h: Any, query: Any, key: Any) -> Any:  # noqa: ANN401  (traced scalars)
        allowed = query >= key if causal else query == query
        if window is not None:
            allowed = allowed & (query - key < window)
        if key_mask_BT is not None:
            allowed = allowed & key_mask_BT[b, key]
        return allowed

    return _mask_maker()(seen, n_rows, None, n_bars, n_bars, device=device)
