"""PyTorch's scaled_dot_product_attention, with its kernel chosen by PyTorch or by name.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.attention import sdpa_kernel as only

from flash_pipeline.model.kernels.protocol import Kernel, silence_absent, visible


def sdpa_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Run whichever of its kernels PyTorch picks: cuDNN, flash, efficient or math.

    A key mask costs O(B T) memory, a window or a causal key mask O(T²) or O(B T²): PyTorch takes
    either its causal flag or a mask.
    """
    plain = causal and window is None and key_mask_BT is None
    seen = None if plain else visible(key_mask_BT, causal, window, q_BTHD)
    o_BHTD = F.scaled_dot_product_attention(
        q_BTHD.transpose(1, 2),
        k_BTHD.transpose(1, 2),
        v_BTHD.transpose(1, 2),
        attn_mask=seen,
        dropout_p=dropout_p,
        is_causal=plain,
    )
    return silence_absent(o_BHTD.transpose(1, 2), key_mask_BT)


def _forced(backend: SDPBackend) -> Kernel:
    def kernel(
        q_BTHD: Tensor,
        k_BTHD: Tensor,
        v_BTHD: Tensor,
        *,
        key_mask_BT: Tensor | None,
        causal: bool,
        window: int | None,
        dropout_p: float,
    ) -> Tensor:
        with only([backend]):
            return sdpa_kernel(
                q_BTHD,
                k_BTHD,
                v_BTHD,
                key_mask_BT=key_mask_BT,
                causal=causal,
                window=window,
                dropout_p=dropout_p,
            )

    return kernel


cudnn_kernel = _forced(SDPBackend.CUDNN_ATTENTION)
"""cuDNN's fused attention: neither masks nor windows nor dropout."""

sdpa_flash_kernel = _forced(SDPBackend.FLASH_ATTENTION)
"""The FlashAttention-2 that PyTorch ships: neither masks nor windows."""

efficient_kernel = _forced(SDPBackend.EFFICIENT_ATTENTION)
"""The memory-efficient attention of xFormers (Rabe and Staats 2021)."""
