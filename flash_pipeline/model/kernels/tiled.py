"""The tiled algorithm of `model.tiled` behind the kernels' protocol.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size.
"""

from torch import Tensor

from flash_pipeline.model.tiled import tiled_attention


def tiled_kernel(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
) -> Tensor:
    """Run `tiled_attention`; dropout is refused before."""
    assert dropout_p == 0
    return tiled_attention(
        q_BTHD, k_BTHD, v_BTHD, key_mask_BT=key_mask_BT, causal=causal, window=window
    )
