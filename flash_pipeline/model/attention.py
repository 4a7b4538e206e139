"""The one seam between the model and the attention kernels.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.

`choose_backend` says which kernel runs and why; `attend` runs it. What a backend cannot honour
raises `AttentionUnsupported`: no argument is ever dropped, no dtype ever changed in silence.
A new kernel, or a new argument such as a sliding window, is added here and in `model.kernels`.
"""

import functools
import logging
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig, InvalidInput
from flash_pipeline.model.config import MAX_HEAD_SIZE, AttentionName
from flash_pipeline.model.kernels import (
    Kernel,
    flash_attn_package,
    flash_kernel,
    reference_kernel,
    sdpa_kernel,
)

BackendName = Literal["flash_attn", "sdpa", "reference"]
"""Backends that can run; `auto` stands for one of them."""

FLASH_DTYPES = (torch.float16, torch.bfloat16)
"""Dtypes that the flash-attn package takes."""

FLASH_CAPABILITY = 8
"""Major compute capability from which flash-attn runs: Ampere."""

_KERNELS: dict[BackendName, Kernel] = {
    "flash_attn": flash_kernel,
    "sdpa": sdpa_kernel,
    "reference": reference_kernel,
}

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
    device: torch.device,
    dtype: torch.dtype,
    head_size: int,
    has_mask: bool,
    requested: AttentionName = "auto",
) -> BackendChoice:
    """Choose the backend for a call, and log the choice once where it was left to `auto`.

    Parameters
    ----------
    device : torch.device
        Where queries, keys and values lie.
    dtype : torch.dtype
        Their dtype; under autocast, that of autocast.
    head_size : int
        Their last dimension.
    has_mask : bool
        Whether a key mask is given.
    requested : {"auto", "flash_attn", "sdpa", "reference"}
        `auto` takes flash-attn where it can run, else SDPA.

    Returns
    -------
    BackendChoice

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
    if not dtype.is_floating_point:
        raise AttentionUnsupported(f"attention got {dtype}: expected a floating-point dtype")
    if requested == "auto":
        choice = _choose(device, dtype, head_size, has_mask)
        _announce(choice)
        return choice
    if requested == "flash_attn":
        refusal = flash_refusal(device, dtype, head_size)
        if refusal is not None:
            raise AttentionUnsupported(f"flash_attn was asked for, but {refusal}")
    return _describe(requested, has_mask, "asked for by name")


def attend(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
    backend: AttentionName,
) -> Tensor:
    """Compute multi-head self-attention, softmax(q kᵀ / sqrt(D)) v.

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD : Tensor
        Queries, keys and values of one shape, dtype and device, finite even where masked.
        Their dtype is what is computed with: autocast is off inside.
    key_mask_BT : Tensor of bool, optional
        False where a token is absent (padding): no query sees it, and its own output is zero. A
        row without any token gives zeros, never NaN. Any pattern will do.
    causal : bool
        Whether a query sees only the keys up to its own bar; otherwise it sees all of them.
        Look-ahead: without it, the output of every bar but the last knows later bars.
    dropout_p : float
        Probability of dropping an attention weight, in [0, 1). Pass 0 in evaluation: this
        function knows no training mode.
    backend : {"auto", "flash_attn", "sdpa", "reference"}
        As for `choose_backend`.

    Returns
    -------
    o_BTHD : Tensor
        In the dtype of the queries.

    Raises
    ------
    AttentionUnsupported
        If the backend cannot honour the call.
    InvalidInput
        If shapes, dtypes, the mask or the probability do not fit.

    Notes
    -----
    Vaswani et al. 2017, equation 1; computed without the T x T matrix by the fused kernels (Dao
    et al. 2022, "FlashAttention"; Dao 2023, "FlashAttention-2").
    """
    _check_operands(q_BTHD, k_BTHD, v_BTHD)
    _check_mask(key_mask_BT, q_BTHD)
    if not 0 <= dropout_p < 1:
        raise InvalidInput(f"dropout_p is {dropout_p}: expected at least 0 and below 1")
    choice = choose_backend(
        q_BTHD.device, q_BTHD.dtype, q_BTHD.shape[-1], key_mask_BT is not None, backend
    )
    with torch.autocast(q_BTHD.device.type, enabled=False):
        return _KERNELS[choice.name](
            q_BTHD, k_BTHD, v_BTHD, key_mask_BT=key_mask_BT, causal=causal, dropout_p=dropout_p
        )


def flash_refusal(device: torch.device, dtype: torch.dtype, head_size: int) -> str | None:
    """Return why flash-attn cannot run such a call, or None where it can."""
    if dtype not in FLASH_DTYPES:
        return f"the dtype is {dtype}: expected torch.float16 or torch.bfloat16"
    if head_size > MAX_HEAD_SIZE:
        return f"the head size is {head_size}: expected at most {MAX_HEAD_SIZE}"
    if device.type != "cuda":
        return f"the device is {device}: expected a CUDA device"
    major, minor = torch.cuda.get_device_capability(device)
    if major < FLASH_CAPABILITY:
        return f"the compute capability is {major}.{minor}: expected at least {FLASH_CAPABILITY}.0"
    return _flash_import_refusal()


@functools.cache
def _flash_import_refusal() -> str | None:
    try:
        flash_attn_package()
    except ImportError as error:
        return f"the flash_attn package cannot be imported ({error})"
    return None


def _choose(
    device: torch.device, dtype: torch.dtype, head_size: int, has_mask: bool
) -> BackendChoice:
    refusal = flash_refusal(device, dtype, head_size)
    if refusal is None:
        return _describe("flash_attn", has_mask, f"it takes {dtype} on {device.type}")
    return _describe("sdpa", has_mask, f"no flash_attn, since {refusal}")


def _describe(name: BackendName, has_mask: bool, reason: str) -> BackendChoice:
    kernels: dict[BackendName, str] = {
        "flash_attn": "flash_attn_varlen_func" if has_mask else "flash_attn_func",
        "sdpa": "scaled_dot_product_attention",
        "reference": "softmax in float32",
    }
    return BackendChoice(name, kernels[name], reason)


@functools.cache
def _announce(choice: BackendChoice) -> None:
    """Log a choice; the cache makes it once per process and choice."""
    _log.info("attention: %s", choice)


def _check_operands(q_BTHD: Tensor, k_BTHD: Tensor, v_BTHD: Tensor) -> None:
    if q_BTHD.ndim != 4:
        raise InvalidInput(f"q has the shape {tuple(q_BTHD.shape)}: expected [B, T, H, D]")
    for name, x_BTHD in (("k", k_BTHD), ("v", v_BTHD)):
        if x_BTHD.shape != q_BTHD.shape:
            raise InvalidInput(
                f"{name} has the shape {tuple(x_BTHD.shape)}: expected q's, {tuple(q_BTHD.shape)}"
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
