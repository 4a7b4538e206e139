"""The attention kernels, one function each; `model.attention` alone calls them.

    reference.py   softmax as written          sdpa.py      PyTorch's fused kernels
    flash.py       flash-attn 2                flash_4.py   flash-attn 4
    flex.py        FlexAttention               ../tiled.py  the tiled algorithm in plain PyTorch

Every kernel honours all of its arguments and the same contract: where `key_mask_BT` is False
the token is absent, so no query sees it and its own output is zero. What a kernel cannot honour
is refused before it is called (`model.attention.refusal`).
"""

from flash_pipeline.model.kernels.protocol import Kernel
from flash_pipeline.model.kernels.reference import reference_attention

__all__ = ["Kernel", "reference_attention"]
