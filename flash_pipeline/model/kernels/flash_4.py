"""The flash-attn-4 package (`flash_attn.cute`): CuTe kernels, compiled at their first use.

Forward and backward are wrapped as operators of PyTorch, so that `torch.compile` and CUDA graphs
see two opaque calls with known shapes in place of Python that builds kernels.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

import importlib
import warnings
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

_PACKAGE = "flash_attn.cute.interface"


def flash_4_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Run flash-attn-4's dense kernel; masks and dropout are refused before."""
    assert key_mask_BT is None
    assert dropout_p == 0
    o_BTHD: Tensor
    o_BTHD, _ = _forward(q_BTHD, k_BTHD, v_BTHD, causal, window or 0)
    return o_BTHD


def flash_attn_4_package() -> ModuleType:
    """Import flash-attn-4's interface, on first use only.

    Raises
    ------
    ImportError
        If it is not installed. flash-attn 2 carries an early copy of some of its files, which
        does not count.
    """
    package = importlib.import_module(_PACKAGE)
    if not (hasattr(package, "_flash_attn_fwd") and hasattr(package, "flash_attn_combine")):
        raise ImportError(f"{_PACKAGE} is not that of flash-attn-4")
    return package


def _call(name: str, *tensors: Tensor, causal: bool, window: int, **more: Any) -> Any:  # noqa: ANN401
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of its compiler, on its own arguments
        return getattr(flash_attn_4_package(), name)(
            *tensors,
            causal=causal and not window,
            window_size_left=window - 1 if window else None,
            window_size_right=0 if window else None,
            **more,
        )


@torch.library.custom_op("flash_pipeline::flash_attn_4", mutates_args=())
def _forward(
    q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    """Return o_BTHD and the log of each query's sum of exponentials [B, H, T]; 0: no window."""
    o_BTHD, lse_BHT, *_ = _call(
        "_flash_attn_fwd", q_BTHD, k_BTHD, v_BTHD, causal=causal, window=window, return_lse=True
    )
    return o_BTHD, lse_BHT


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, causal: bool, window: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    n_rows, n_bars, n_heads, _ = q.shape
    lse = q.new_empty((n_rows, n_heads, n_bars), dtype=torch.float32)
    return torch.empty_like(q, memory_format=torch.contiguous_format), lse


@torch.library.custom_op("flash_pipeline::flash_attn_4_backward", mutates_args=())
def _backward(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    o_BTHD: Tensor,
    lse_BHT: Tensor,
    pull_BTHD: Tensor,
    causal: bool,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dq_BTHD, dk_BTHD, dv_BTHD, *_ = _call(
        "_flash_attn_bwd",
        q_BTHD,
        k_BTHD,
        v_BTHD,
        o_BTHD,
        pull_BTHD.contiguous(),
        lse_BHT,
        causal=causal,
        window=window,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return dq_BTHD, dk_BTHD, dv_BTHD


@_backward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,  # noqa: ARG001
    lse: Tensor,  # noqa: ARG001
    pull: Tensor,  # noqa: ARG001
    causal: bool,  # noqa: ARG001
    window: int,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:
    # As the kernel allocates them: in the layout of what they are the gradients of.
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401
    q_BTHD, k_BTHD, v_BTHD, ctx.causal, ctx.window = inputs
    o_BTHD, lse_BHT = output
    ctx.save_for_backward(q_BTHD, k_BTHD, v_BTHD, o_BTHD, lse_BHT)
    ctx.mark_non_differentiable(lse_BHT)


def _differentiate(ctx: Any, pull_BTHD: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    gradients = _backward(*ctx.saved_tensors, pull_BTHD, ctx.causal, ctx.window)
    return (*gradients, None, None)


_forward.register_autograd(_differentiate, setup_context=_keep)
