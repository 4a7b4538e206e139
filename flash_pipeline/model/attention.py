"""The one seam between the model and the attention kernels.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.

`choose_backend` says which kernel runs and why; `attend` runs it. What a backend cannot honour
raises `AttentionUnsupported`: no argument is ever dropped, no dtype ever changed in silence.
A new kernel is added in `model.kernels`, `model.refusals` and `_KERNELS`.
"""

import functools
import logging
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig, InvalidInput
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.kernels.flash import flash_kernel
from flash_pipeline.model.kernels.flash_4 import flash_4_kernel
from flash_pipeline.model.kernels.flex import flex_kernel
from flash_pipeline.model.kernels.protocol import Kernel
from flash_pipeline.model.kernels.reference import reference_kernel
from flash_pipeline.model.kernels.sdpa import (
    cudnn_kernel,
    efficient_kernel,
    sdpa_flash_kernel,
    sdpa_kernel,
)
from flash_pipeline.model.kernels.tiled import tiled_kernel
from flash_pipeline.model.refusals import (
    BACKENDS,
    HALF_DTYPES,
    AttentionCall,
    BackendName,
    refusal,
)
from flash_pipeline.model.speeds import SpeedTable, shipped_speeds

_KERNELS: dict[BackendName, Kernel] = {
    "flash_attn": flash_kernel,
    "flash_attn_4": flash_4_kernel,
    "sdpa": sdpa_kernel,
    "sdpa_cudnn": cudnn_kernel,
    "sdpa_flash": sdpa_flash_kernel,
    "sdpa_efficient": efficient_kernel,
    "flex": flex_kernel,
    "tiled": tiled_kernel,
    "reference": reference_kernel,
}

_UNMEASURED: tuple[BackendName, ...] = ("flash_attn_4", "flash_attn", "sdpa_cudnn", "sdpa_flash")
"""Order in which `auto` tries backends where the table of speeds has nothing to say."""

_RANKED = frozenset({*_UNMEASURED, "sdpa_efficient", "flex"})
"""Backends that `auto` takes for their measured speed. `sdpa` is not one: which kernel PyTorch
picks for it depends on the call, so its time in the table says nothing about another."""

_MASKED: tuple[BackendName, ...] = ("flash_attn",)
_DROPPING: tuple[BackendName, ...] = ("flash_attn", "sdpa_flash", "sdpa_efficient")
"""Orders under a mask and under dropout, with which nothing was measured."""

_PACKED: tuple[BackendName, ...] = ("flash_attn", "sdpa_flash")
"""Order over short packed sequences: the kernels that take all of them in one call."""

_LAST_WITH_WINDOW: tuple[BackendName, ...] = ("flex", "sdpa")  # sdpa makes a mask of O(T²)
_LAST: tuple[BackendName, ...] = ("sdpa",)

_MANY_BARS = 2_048
"""From here on the tiled algorithm outruns a masked `sdpa` on a CPU, under a narrow window."""

_LONG_SEQUENCE = 4_096
"""Tokens from which on a packed sequence fills a GPU by itself, so that speed is that of a row."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackendChoice:
    """Which attention runs, and why."""

    name: BackendName
    """Backend."""
    kernel: str
    """Function that the backend calls."""
    reason: str
    """Why this backend: a sentence for logs and metadata."""

    def __str__(self) -> str:
        return f"{self.name} ({self.kernel}): {self.reason}"


def choose_backend(
    call: AttentionCall, requested: AttentionName = "auto", speeds: SpeedTable | None = None
) -> BackendChoice:
    """Choose the backend for a call, and log the choice once where it was left to `auto`.

    Parameters
    ----------
    call : AttentionCall
        What is to be computed, and where.
    requested : str
        A backend's name, or `auto`. On a GPU that is the fastest fused kernel by the table of
        speeds that honours the call; with a mask, dropout or float32, which the table does not
        cover, the first of a fixed order; `sdpa` where none does. On a CPU `sdpa`, or `tiled`
        for a narrow window of many bars.
    speeds : SpeedTable or None
        None for the table that the package ships; pass one's own to override it.

    Raises
    ------
    AttentionUnsupported
        If the backend asked for cannot run the call.
    InvalidConfig
        If there is no such backend.
    """
    if requested not in get_args(AttentionName):
        expected = " ".join(get_args(AttentionName))
        raise InvalidConfig(f"attention backend {requested!r} is unknown: expected {expected}")
    if not call.dtype.is_floating_point:
        raise AttentionUnsupported(f"attention got {call.dtype}: expected a floating-point dtype")
    if requested != "auto":
        reason = refusal(requested, call)
        if reason is not None:
            raise AttentionUnsupported(f"{requested} was asked for, but {reason}")
        return _describe(requested, call, "asked for by name")
    choice = _choose(call, shipped_speeds() if speeds is None else speeds)
    _announce(choice)
    return choice


def kernel_of(name: BackendName) -> Kernel:
    """Return the function of a backend, for `model.packed` alone."""
    return _KERNELS[name]


def usable_backends(call: AttentionCall) -> tuple[BackendName, ...]:
    """Return the backends that can honour a call here, in no order of merit."""
    return tuple(name for name in BACKENDS if refusal(name, call) is None)


def attend(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    dropout_p: float = 0.0,
    backend: AttentionName | BackendChoice,
) -> Tensor:
    """Compute multi-head self-attention, softmax(q kᵀ / sqrt(D)) v.

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD : Tensor
        Queries, keys and values of one shape, dtype and device, finite even where masked.
        Their dtype is what is computed with: autocast is off inside. Without `causal` and a
        mask there may be fewer queries than keys, or more: o_BTHD has the shape of the queries.
    key_mask_BT : Tensor of bool, optional
        False where a token is absent (padding): no query sees it, and its own output is zero. A
        row without any token gives zeros, never NaN. Any pattern will do.
    causal : bool
        Whether a query sees only the keys up to its own bar; otherwise it sees all of them.
        Look-ahead: without it, the output of every bar but the last knows later bars.
    window : int, optional
        Bars that a query sees, its own included, at least 1; with `causal` only.
    dropout_p : float
        Probability of dropping an attention weight, in [0, 1). Pass 0 in evaluation: this
        function knows no training mode.
    backend : str or BackendChoice
        As for `choose_backend`; a choice made before for such a call is not made again.

    Returns
    -------
    o_BTHD : Tensor
        In the dtype of the queries.

    Raises
    ------
    AttentionUnsupported
        If the backend cannot honour the call.
    InvalidInput
        If shapes, dtypes, the mask, the window or the probability do not fit.

    Notes
    -----
    Vaswani et al. 2017, equation 1; computed without the T x T matrix by the fused kernels (Dao
    et al. 2022, "FlashAttention"; Dao 2023, "FlashAttention-2"). Windows: Beltagy et al. 2020,
    "Longformer".
    """
    _check_operands(q_BTHD, k_BTHD, v_BTHD, alike=causal or key_mask_BT is not None)
    _check_mask(key_mask_BT, q_BTHD)
    _check_numbers(window, dropout_p, causal=causal)
    if isinstance(backend, BackendChoice):
        name = backend.name
    else:
        has_mask, dropout = key_mask_BT is not None, dropout_p > 0
        call = AttentionCall.of(k_BTHD, has_mask, causal=causal, window=window, dropout=dropout)
        name = choose_backend(call, backend).name
    with torch.autocast(q_BTHD.device.type, enabled=False):
        return _KERNELS[name](
            q_BTHD,
            k_BTHD,
            v_BTHD,
            key_mask_BT=key_mask_BT,
            causal=causal,
            window=window,
            dropout_p=dropout_p,
        )


def _choose(call: AttentionCall, speeds: SpeedTable) -> BackendChoice:
    if call.device.type != "cuda":
        reason = f"the fused kernels run on CUDA, the device is {call.device}"
        if _pays_in_tiles(call):
            return _describe(
                "tiled", call, f"{reason}; sdpa would mask {call.length} x as many bars"
            )
        return _describe("sdpa", call, reason)
    refused: list[str] = []
    for name, merit in _candidates(call, speeds).items():
        unfit = refusal(name, call)
        if unfit is None:
            without = f"; not {'; not '.join(refused)}" if refused else ""
            return _describe(name, call, f"{merit} at {call.length} bars{without}")
        refused.append(f"{name}, since {unfit}")
    raise AssertionError(refused)  # sdpa honours every call


def _candidates(call: AttentionCall, speeds: SpeedTable) -> dict[BackendName, str]:
    """Return backends in the order in which they are tried on a GPU, each with its merit."""
    last = _LAST if call.window is None else _LAST_WITH_WINDOW
    if call.packed and (call.dropout or call.length < _LONG_SEQUENCE):
        order = ("flash_attn",) if call.dropout else _PACKED
        return dict.fromkeys((*order, *last), "by the order over packed sequences")
    if call.has_mask:
        return dict.fromkeys((*_MASKED, *last), "by the order under a mask")
    if call.dropout:
        return dict.fromkeys((*_DROPPING, *last), "by the order under dropout")
    usual = dict.fromkeys((*_UNMEASURED, *last), "by the usual order")
    if call.dtype not in HALF_DTYPES:  # measured in bfloat16
        return usual
    ranked = speeds.ranking(call.head_size, call.span, call.length)
    measured = dict.fromkeys((n for n in ranked if n in _RANKED), "the fastest measured")
    return measured | {name: merit for name, merit in usual.items() if name not in measured}


def _pays_in_tiles(call: AttentionCall) -> bool:
    """Say whether skipping tiles beats a mask over all pairs: for a narrow window of many bars."""
    if call.window is None or call.dropout:
        return False
    return call.length >= _MANY_BARS and 4 * call.window <= call.length


def _describe(name: BackendName, call: AttentionCall, reason: str) -> BackendChoice:
    kernels: dict[BackendName, str] = {
        "flash_attn": f"flash_attn_{'varlen_' * (call.has_mask or call.packed)}func",
        "flash_attn_4": "flash_attn.cute",
        "sdpa": "scaled_dot_product_attention",
        "sdpa_cudnn": "scaled_dot_product_attention, cuDNN",
        "sdpa_flash": "scaled_dot_product_attention, flash",
        "sdpa_efficient": "scaled_dot_product_attention, memory-efficient",
        "flex": "flex_attention",
        "tiled": "tiled online softmax in PyTorch",
        "reference": "softmax in float32",
    }
    return BackendChoice(name, kernels[name], reason)


@functools.cache
def _announce(choice: BackendChoice) -> None:
    """Log a choice; the cache makes it once per process and choice."""
    _log.info("attention: %s", choice)


def _check_operands(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor, *, alike: bool) -> None:
    if q_BTHD.ndim != 4:
        raise InvalidInput(f"q has the shape {tuple(q_BTHD.shape)}: expected [B, T, H, D]")
    expected = q_BTHD.shape
    if not alike and k_BTHD.ndim == 4 and k_BTHD.shape == v_BTHD.shape:
        expected = torch.Size((expected[0], k_BTHD.shape[1], *expected[2:]))
    for name, x_BTHD in (("k", k_BTHD), ("v", v_BTHD)):
        if x_BTHD.shape != expected:
            raise InvalidInput(
                f"{name} has the shape {tuple(x_BTHD.shape)}: expected q's, {tuple(expected)}"
            )
        if x_BTHD.dtype != q_BTHD.dtype:
            raise InvalidInput(f"{name} is {x_BTHD.dtype}: expected q's dtype, {q_BTHD.dtype}")


def _check_mask(key_mask_BT: Tensor | None, q_BTHD: Tensor) -> None:
    if key_mask_BT is None:
        return
    if key_mask_BT.dtype != torch.bool:
        raise InvalidInput(f"key_mask is {key_mask_BT.dtype}: expected torch.bool")
    if key_mask_BT.shape != q_BTHD.shape[:2]:
        raise InvalidInput(
            f"key_mask has the shape {tuple(key_mask_BT.shape)}: "
            f"expected [B, T], {tuple(q_BTHD.shape[:2])}"
        )


def _check_numbers(window: int | None, dropout_p: float, *, causal: bool) -> None:
    if not 0 <= dropout_p < 1:
        raise InvalidInput(f"dropout_p is {dropout_p}: expected at least 0 and below 1")
    if window is not None and not (causal and window >= 1):
        raise InvalidInput(
            f"window is {window} with causal={causal}: expected at least 1, with causal=True"
        )
