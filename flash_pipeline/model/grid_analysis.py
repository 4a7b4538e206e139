"""What a prediction over a grid looked at: by cell, by lag, and by both.

Shape letters: L layers, B batch rows, T moments, G cells of a moment, H heads, D head size, Q cells
of the last moment that ask together, K cells that are asked.

The weights of the last moment's queries are G rows of the whole matrix. They are formed a few rows
at a time, exactly, and summed as they come: memory grows with the tokens, not with their square.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from flash_pipeline.model.grid import GridModel, Layer

SCORE_ENTRIES = 2**24
"""Most scores that are formed at a time."""


@dataclass(frozen=True)
class LastMoment:
    """Attention of the last moment's queries, before dropout; float32.

    Each present query's weights sum to 1, and what is absent has none.
    """

    by_cell_LBHGK: Tensor
    """Weight that each cell (G) gives to each (K), summed over all lags. Of an order book a cell
    is 2 x level + side, of a portfolio an asset."""
    by_lag_LBHT: Tensor
    """Weight by lag, the newest moment first; mean over the present queries."""
    by_place_LBHTK: Tensor
    """Weight of every token, oldest moment first; mean over the present queries."""

    def by_level_and_side(self) -> Tensor:
        """Return by_cell of an order book as [L, B, H, level, side, level, side]."""
        cell = self.by_cell_LBHGK
        return cell.view(*cell.shape[:3], cell.shape[3] // 2, 2, cell.shape[4] // 2, 2)


@torch.no_grad()
def last_moment_attention(model: GridModel, x: Tensor, valid: Tensor | None = None) -> LastMoment:
    """Return how each head of each layer weighs the history where the prediction is made.

    Parameters
    ----------
    model : GridModel
        In any mode; dropout is off inside.
    x, valid : Tensor
        As for `GridModel.forward`, errors too.

    Returns
    -------
    LastMoment
        Exact sums over the rows of the attention matrix that belong to the last moment. A weight
        says what a head read, not what caused the prediction.
    """
    mask_BTG = x.new_ones(x.shape[:-1], dtype=torch.bool) if valid is None else valid
    mask_BTG = mask_BTG.flatten(2)
    causal = model.config.span == "causal"
    cells, places = [], []
    for layer in model.layers(x, valid):
        with torch.autocast(x.device.type, enabled=False):
            by_cell, by_place = _gathered(layer, mask_BTG, causal=causal)
        cells.append(by_cell)
        places.append(by_place)
    by_place_LBHTK = torch.stack(places)
    return LastMoment(torch.stack(cells), by_place_LBHTK.sum(-1).flip(-1), by_place_LBHTK)


def _gathered(layer: Layer, mask_BTG: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Return by_cell_BHGK and by_place_BHTK of one layer."""
    n_rows, n_moments, n_cells = mask_BTG.shape
    n_heads = layer.q_BGHD.shape[2]
    wide = torch.promote_types(layer.q_BGHD.dtype, torch.float32)
    asked_BG = mask_BTG[:, -1]
    by_cell = layer.q_BGHD.new_zeros((n_rows, n_heads, n_cells, n_cells), dtype=wide)
    by_place = by_cell.new_zeros((n_rows, n_heads, n_moments, n_cells))
    for cells in _chunks(n_cells, n_rows * n_heads * n_moments * n_cells):
        weights_BHQTK = _weights(layer, mask_BTG, cells, causal=causal)
        weights_BHQTK = weights_BHQTK.where(asked_BG[:, None, cells, None, None], 0.0)
        by_cell[:, :, cells] = weights_BHQTK.sum(3)
        by_place += weights_BHQTK.sum(2)
    count_B111 = asked_BG.sum(1).clamp(min=1)[:, None, None, None]
    return by_cell, by_place / count_B111


def _weights(layer: Layer, mask_BTG: Tensor, cells: slice, *, causal: bool) -> Tensor:
    """Return weights_BHQTK of some cells' queries over all tokens, 0 where a token is not seen."""
    n_moments, n_cells = mask_BTG.shape[1:]
    wide = torch.promote_types(layer.q_BGHD.dtype, torch.float32)
    q_BQHD, k_BTKHD = layer.q_BGHD[:, cells].to(wide), layer.k_BTGHD.to(wide)
    scores_BHQTK = torch.einsum("bqhd,btkhd->bhqtk", q_BQHD, k_BTKHD)
    scores_BHQTK = scores_BHQTK / math.sqrt(q_BQHD.shape[-1])
    place_K = torch.arange(n_cells, device=mask_BTG.device)
    place_Q11 = place_K[cells, None, None]
    newest_T1 = (torch.arange(n_moments, device=mask_BTG.device) == n_moments - 1)[:, None]
    if layer.axis == "time":
        seen_QTK = (place_K == place_Q11).expand(-1, n_moments, -1)
    elif layer.axis == "cells":
        seen_QTK = newest_T1 & (place_K == place_K) & (place_Q11 >= 0)
    else:
        seen_QTK = (~newest_T1 | (place_K <= place_Q11)) if causal else (place_Q11 >= 0)
    seen_BHQTK = mask_BTG[:, None, None] & seen_QTK
    scores_BHQTK = scores_BHQTK.masked_fill(~seen_BHQTK, -math.inf)
    weights_BHQTK = scores_BHQTK.flatten(3).softmax(-1).view_as(scores_BHQTK)
    return weights_BHQTK.masked_fill(~seen_BHQTK, 0.0)  # a query that sees nothing is NaN


def _chunks(n_cells: int, entries_of_one: int) -> Iterator[slice]:
    size = max(1, SCORE_ENTRIES // entries_of_one)
    for start in range(0, n_cells, size):
        yield slice(start, min(start + size, n_cells))
