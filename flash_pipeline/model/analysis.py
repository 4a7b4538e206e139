"""Which bars a prediction looked at: attention weights, computed beside the fast path.

Shape letters: L layers, B batch rows, H heads, T bars of the input, P padded bars, D head size,
C model width, I inputs per bar.

The fused kernels never form the weights. `last_query_attention` recomputes the one row that the
prediction reads, exactly and in O(T) memory, while the stream itself runs through the configured
kernel; `full_attention` forms them all, by the reference backend. Both are the weights before
dropout, of a model in evaluation, and leave the model as it was. A weight says what a head read,
not what caused the prediction.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.blocks import Block
from flash_pipeline.model.config import AttentionName, ModelConfig
from flash_pipeline.model.kernels import reference_attention
from flash_pipeline.model.sequence import evaluating
from flash_pipeline.model.trader import FlashAttentionTrader, last_valid, needed_mask

FULL_ATTENTION_LIMIT = 2**30
"""Most bytes of weights that `full_attention` forms."""


@torch.no_grad()
def last_query_attention(
    model: FlashAttentionTrader, x_BTI: Tensor, valid_BT: Tensor | None = None
) -> Tensor:
    """Return how each head of each layer weighs the history at the bar that is read.

    Parameters
    ----------
    model : FlashAttentionTrader
        In any mode; dropout is off inside.
    x_BTI, valid_BT : Tensor
        As for `FlashAttentionTrader.forward`.

    Returns
    -------
    weights_LBHT : Tensor
        Weight of every bar for the last valid query, in float32: at least 0, 0 for absent bars,
        with a sum of 1 over the bars. All 0 for a row without a valid bar.

    Raises
    ------
    InvalidInput, AttentionUnsupported
        As for `FlashAttentionTrader.forward`.
    """
    model.check_input(x_BTI, valid_BT)
    n_bars = x_BTI.shape[1]
    with evaluating(model):
        rows = [
            _last_row(q_BPHD, k_BPHD, mask_BP, model.config.window)
            for q_BPHD, k_BPHD, _, mask_BP in _layers(model, x_BTI, valid_BT, None)
        ]
    return torch.stack(rows)[..., -n_bars:]


@torch.no_grad()
def full_attention(
    model: FlashAttentionTrader, x_BTI: Tensor, valid_BT: Tensor | None = None
) -> Tensor:
    """Return the whole attention matrix of every layer and head, for short inputs.

    Parameters
    ----------
    model : FlashAttentionTrader
        In any mode; dropout is off inside, and the whole pass runs on the reference backend.
    x_BTI, valid_BT : Tensor
        As for `FlashAttentionTrader.forward`.

    Returns
    -------
    weights_LBHTT : Tensor
        Weight of each key (last axis) for each query; rows of absent queries are all 0. float32.

    Raises
    ------
    InvalidInput
        As for `FlashAttentionTrader.forward`, and where the weights would take more than
        `FULL_ATTENTION_LIMIT` bytes: `last_query_attention` has no such limit.
    """
    model.check_input(x_BTI, valid_BT)
    n_rows, n_bars = x_BTI.shape[:2]
    _check_size(model, n_rows, n_bars)
    with evaluating(model):
        matrices = [
            _all_rows(model.config, q_BPHD, k_BPHD, v_BPHD, mask_BP)
            for q_BPHD, k_BPHD, v_BPHD, mask_BP in _layers(
                model, x_BTI, needed_mask(valid_BT), "reference"
            )
        ]
    return torch.stack([weights_BHPP[..., -n_bars:, -n_bars:] for weights_BHPP in matrices])


def _layers(
    model: FlashAttentionTrader,
    x_BTI: Tensor,
    valid_BT: Tensor | None,
    backend: AttentionName | None,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Run the blocks, and yield queries, keys, values and mask of each before it runs."""
    h_BPC, mask_BP = model.embed(x_BTI, needed_mask(valid_BT))
    chosen = backend or model.choose_attention(h_BPC.shape[1], mask_BP is not None)
    context = model.context(h_BPC, mask_BP, chosen)
    for block in model.blocks:
        assert isinstance(block, Block)
        yield *block.attention.project(block.attention_norm(h_BPC), context.turn_2TR), mask_BP
        h_BPC = block(h_BPC, context)


def _all_rows(
    config: ModelConfig,
    q_BPHD: Tensor,
    k_BPHD: Tensor,
    v_BPHD: Tensor,
    mask_BP: Tensor | None,
) -> Tensor:
    with torch.autocast(q_BPHD.device.type, enabled=False):
        _, weights_BHPP = reference_attention(
            q_BPHD,
            k_BPHD,
            v_BPHD,
            key_mask_BT=mask_BP,
            causal=config.span != "full",
            window=config.window,
        )
    return weights_BHPP


def _last_row(q_BPHD: Tensor, k_BPHD: Tensor, mask_BP: Tensor | None, window: int | None) -> Tensor:
    """Return weights_BHP of the last valid query: a softmax over one row of the matrix."""
    n_rows, n_bars = q_BPHD.shape[:2]
    if mask_BP is None:
        mask_BP = q_BPHD.new_ones((n_rows, n_bars), dtype=torch.bool)
    last_B = last_valid(mask_BP)
    seen_BP = mask_BP
    if window is not None:
        bars_P = torch.arange(n_bars, device=last_B.device)
        seen_BP = mask_BP & (bars_P > last_B[:, None] - window)
    with torch.autocast(q_BPHD.device.type, enabled=False):
        wide = torch.promote_types(q_BPHD.dtype, torch.float32)
        q_BHD = q_BPHD[torch.arange(n_rows, device=last_B.device), last_B].to(wide)
        scores_BHP = torch.einsum("bhd,bphd->bhp", q_BHD, k_BPHD.to(wide))
        scores_BHP = scores_BHP / math.sqrt(q_BHD.shape[-1])
        unseen_B1P = ~seen_BP[:, None]
        weights_BHP = scores_BHP.masked_fill(unseen_B1P, -math.inf).softmax(-1)
        return weights_BHP.masked_fill(unseen_B1P, 0.0)  # a row of absent bars alone is NaN


def _check_size(model: FlashAttentionTrader, n_rows: int, n_bars: int) -> None:
    config = model.config
    n_bytes = config.n_layers * n_rows * config.n_heads * n_bars**2 * 4
    if n_bytes > FULL_ATTENTION_LIMIT:
        raise InvalidInput(
            f"{n_rows} rows of {n_bars} bars take {n_bytes} bytes of attention weights: "
            f"expected at most {FULL_ATTENTION_LIMIT}; last_query_attention has no such limit"
        )
