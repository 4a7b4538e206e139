"""What each attention backend cannot honour, as a sentence that says why."""

import functools
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from flash_pipeline.model.config import MAX_HEAD_SIZE, SpanName
from flash_pipeline.model.kernels.flash import flash_attn_package
from flash_pipeline.model.kernels.flash_4 import flash_attn_4_package
from flash_pipeline.model.kernels.packed import varlen_attention

BackendName = Literal[
    "flash_attn",
    "flash_attn_4",
    "sdpa",
    "sdpa_cudnn",
    "sdpa_flash",
    "sdpa_efficient",
    "flex",
    "tiled",
    "reference",
]
"""Backends that can run; `auto` stands for one of them."""

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)
"""All of them."""

HALF_DTYPES = (torch.float16, torch.bfloat16)
"""Dtypes that the flash kernels take."""

_AMPERE, _HOPPER, _BLACKWELL = 8, 9, 10  # major compute capabilities
_NARROW_HEAD = 128
_HEADS_4 = (32, 64, 128)  # of 8, 16 and 40 the gradient of the queries is wrong
_ALIGNMENT = 8


@dataclass(frozen=True)
class AttentionCall:
    """What is to be computed, and where: all that the choice of a backend depends on."""

    device: torch.device
    """Where queries, keys and values lie."""
    dtype: torch.dtype
    """Their dtype; under autocast, that of autocast."""
    head_size: int
    """Their last dimension."""
    length: int
    """Bars; the keys where the queries are fewer, the longest sequence of a pack."""
    has_mask: bool = False
    """Whether a key mask is given."""
    causal: bool = False
    """Whether a query sees only keys up to its own bar."""
    window: int | None = None
    """Bars that a query sees; None for all that `causal` leaves."""
    dropout: bool = False
    """Whether attention weights are dropped."""
    deterministic: bool = False
    """Whether gradients must have the same bits each time."""
    packed: bool = False
    """Whether sequences of varying length lie end to end (`model.packed.attend_packed`)."""

    @property
    def span(self) -> SpanName:
        """The span by its name."""
        if self.window is not None:
            return "sliding"
        return "causal" if self.causal else "full"

    @classmethod
    def of(
        cls, q_BTHD: Tensor, has_mask: bool, *, causal: bool, window: int | None, dropout: bool
    ) -> "AttentionCall":
        """Return the call that such queries make in the torch mode of the moment."""
        return cls(
            q_BTHD.device,
            q_BTHD.dtype,
            q_BTHD.shape[3],
            q_BTHD.shape[1],
            has_mask,
            causal,
            window,
            dropout,
            torch.are_deterministic_algorithms_enabled(),
        )


def compiler_refusal() -> str | None:
    """Return what `torch.compile` lacks to make kernels for a GPU; None where it has all."""
    if importlib.util.find_spec("triton") is None:
        return "its compiler, triton, is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "its compiler, triton, finds no C compiler: expected gcc, clang or the variable CC"
    return None


def refusal(name: BackendName, call: AttentionCall) -> str | None:
    """Return why a backend cannot honour a call, or None where it can."""
    return _REFUSALS[name](call)


def _flash_attn(call: AttentionCall) -> str | None:
    if call.has_mask and call.window is not None:
        return "it has no window over masked bars"
    return _half_precision(call, _AMPERE, MAX_HEAD_SIZE) or _import_refusal(flash_attn_package)


def _flash_attn_4(call: AttentionCall) -> str | None:
    if call.head_size not in _HEADS_4:
        return (
            f"the head size is {call.head_size}: expected one of {_HEADS_4}, in others its "
            "gradients are wrong or untried"
        )
    return (
        _extras(call, mask=True, dropout=True)
        or _half_precision(call, _HOPPER, _NARROW_HEAD, newest=_BLACKWELL)
        or _import_refusal(flash_attn_4_package)
    )


def _cudnn(call: AttentionCall) -> str | None:
    if call.packed:
        return "it takes no sequence of one token, and a pack may have some"
    return (
        _extras(call, mask=True, dropout=True, window=True)
        or ("it is not deterministic" if call.deterministic else None)
        or _half_precision(call, _AMPERE, _NARROW_HEAD)
        or (None if torch.backends.cudnn.is_available() else "cuDNN is not available")  # type: ignore[no-untyped-call]
    )


def _sdpa_flash(call: AttentionCall) -> str | None:
    return (
        _extras(call, mask=True, window=True, packed_dropout=True)
        or _half_precision(call, _AMPERE, MAX_HEAD_SIZE)
        or (_import_refusal(varlen_attention) if call.packed else None)
    )


def _sdpa_efficient(call: AttentionCall) -> str | None:
    if call.device.type != "cuda":
        return f"the device is {call.device}: expected a CUDA device"
    if call.head_size % _ALIGNMENT:
        return f"the head size is {call.head_size}: expected a multiple of {_ALIGNMENT}"
    masked = call.has_mask or call.window is not None
    if masked and call.length % _ALIGNMENT:
        return f"a mask over {call.length} bars: expected a multiple of {_ALIGNMENT}"
    return None


def _flex(call: AttentionCall) -> str | None:
    if call.device.type != "cuda":
        return f"the device is {call.device}: expected a CUDA device"
    if call.head_size & (call.head_size - 1) or not 16 <= call.head_size <= MAX_HEAD_SIZE:
        return f"the head size is {call.head_size}: expected a power of 2 from 16 to 256"
    if call.packed:
        return "it is compiled for each length, and packed sequences have many"
    return _extras(call, dropout=True) or compiler_refusal()


def _tiled(call: AttentionCall) -> str | None:
    return _extras(call, dropout=True)


def _extras(
    call: AttentionCall,
    *,
    mask: bool = False,
    dropout: bool = False,
    window: bool = False,
    packed_dropout: bool = False,
) -> str | None:
    """Return the first of the arguments named that the call has."""
    if mask and call.has_mask:
        return "it takes no key mask"
    if dropout and call.dropout:
        return "it has no dropout"
    if window and call.window is not None:
        return "it has no sliding window"
    if packed_dropout and call.packed and call.dropout:
        return "it has no dropout over packed sequences"
    return None


def _half_precision(
    call: AttentionCall, oldest: int, largest_head: int, newest: int | None = None
) -> str | None:
    """Return what a flash kernel for half precision lacks: dtype, head size or device.

    Oldest and newest are major compute capabilities of GPUs. On one beyond the newest, such as a
    consumer's Blackwell, the kernel has not been tried.
    """
    if call.dtype not in HALF_DTYPES:
        return f"the dtype is {call.dtype}: expected torch.float16 or torch.bfloat16"
    if call.head_size > largest_head:
        return f"the head size is {call.head_size}: expected at most {largest_head}"
    if call.head_size % _ALIGNMENT:
        return f"the head size is {call.head_size}: expected a multiple of {_ALIGNMENT}"
    if call.device.type != "cuda":
        return f"the device is {call.device}: expected a CUDA device"
    major, minor = torch.cuda.get_device_capability(call.device)
    if major < oldest or (newest is not None and major > newest):
        below = "" if newest is None else f" and below {newest + 1}.0"
        return f"the compute capability is {major}.{minor}: expected at least {oldest}.0{below}"
    return None


@functools.cache
def _import_refusal(package: Callable[[], object]) -> str | None:
    try:
        package()
    except (ImportError, OSError) as error:
        return f"its package cannot be imported ({error})"
    return None


_REFUSALS: dict[BackendName, Callable[[AttentionCall], str | None]] = {
    "flash_attn": _flash_attn,
    "flash_attn_4": _flash_attn_4,
    "sdpa": lambda _: None,
    "sdpa_cudnn": _cudnn,
    "sdpa_flash": _sdpa_flash,
    "sdpa_efficient": _sdpa_efficient,
    "flex": _flex,
    "tiled": _tiled,
    "reference": lambda _: None,
}
