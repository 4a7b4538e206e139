"""PyTorch's FlexAttention: windows and masks together, in O(T) memory, by a compiled kernel.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from flash_pipeline.errors import AttentionUnsupported
from flash_pipeline.model.kernels.protocol import silence_absent

MOST_SHAPES = 64
"""Shapes that are compiled for in one process."""

T = TypeVar("T")


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
    return compiled_for_each_shape(flex_attention)


@functools.cache
def _mask_maker() -> Callable[..., BlockMask]:
    return compiled_for_each_shape(create_block_mask)  # or it would form the whole T x T mask


def compiled_for_each_shape(function: Callable[..., T]) -> Callable[..., T]:
    """Compile a function anew for every shape that it meets, and never run it uncompiled.

    After eight shapes PyTorch would go on uncompiled in silence: a hundred times slower, and with
    the T x T matrix in memory.

    Raises
    ------
    AttentionUnsupported
        From the call of a shape beyond `MOST_SHAPES`.
    """
    from torch._dynamo import config  # takes a second, and is needed by this backend alone
    from torch._dynamo.exc import FailOnRecompileLimitHit

    compiled: Callable[..., T] = torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> T:  # noqa: ANN401  (the function's own)
        # Read where a shape is new, so it is set around the call and not for the whole process.
        with config.patch(recompile_limit=MOST_SHAPES, fail_on_recompile_limit_hit=True):
            try:
                return compiled(*arguments, **options)
            except FailOnRecompileLimitHit as error:
                raise AttentionUnsupported(
                    f"flex was compiled for {MOST_SHAPES} shapes in this process: expected no "
                    "more; take fewer lengths, or another attention"
                ) from error

    return call


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
