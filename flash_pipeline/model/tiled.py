"""FlashAttention's algorithm in plain PyTorch: exact attention without the T x T matrix.

Shape letters: B batch rows, T bars (queries and keys alike), H heads, D head size, Q bars of a
query tile, K bars of a key tile.

                 key tiles                   Only one tile of scores exists at a time.
    query    S00   .    .        forward     for each row of tiles, left to right: the online
    tiles    S10  S11   .                    softmax. Keeps the output and one number a query.
             S20  S21  S22       backward    for each column of tiles, downwards: the weights are
                                             computed again from that number.

A GPU kernel holds the tile in on-chip memory; here it is an ordinary tensor, so the memory is
saved but not the time. Tiles that the span hides altogether (dots, under `causal`) are skipped.

Sources: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
"FlashAttention", algorithm 1; Dao 2023, "FlashAttention-2", algorithms 1 and 2 (the loop order).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flash_pipeline.errors import InvalidInput

TILE = 128
"""Bars of a tile, unless told otherwise: the fused kernels' own size."""


def tiled_attention(
    q_BTHD: Tensor,
    k_BTHD: Tensor,
    v_BTHD: Tensor,
    *,
    key_mask_BT: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    tile: int = TILE,
) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(D)) v tile by tile, in memory that grows with T alone.

    Parameters
    ----------
    q_BTHD, k_BTHD, v_BTHD : Tensor
        Queries, keys and values of one shape and dtype, finite even where masked; without
        `causal` and a mask the number of queries may be another. Computed in float64 if they
        are, else in float32.
    key_mask_BT : Tensor of bool, optional
        False where a token is absent: no query sees it, and its own output is zero.
    causal : bool
        Whether a query sees only the keys up to its own bar. Look-ahead: without it, the output
        of every bar but the last knows later bars.
    window : int, optional
        Bars that a query sees, its own included, at least 1; with `causal` only.
    tile : int
        Bars of a tile, at least 1. T need not be a multiple of it.

    Returns
    -------
    o_BTHD : Tensor
        In the dtype of the queries. A query that sees no key gets zeros and gives zero
        gradients, never NaN. There is no dropout.

    Raises
    ------
    InvalidInput
        If the window or the tile does not fit.

    Examples
    --------
    >>> v_BTHD = torch.arange(4.0).reshape(1, 4, 1, 1)
    >>> same_BTHD = torch.zeros_like(v_BTHD)  # equal scores: the mean of what is seen
    >>> tiled_attention(same_BTHD, same_BTHD, v_BTHD, causal=True, tile=2).flatten().tolist()
    [0.0, 0.5, 1.0, 1.5]
    """
    if window is not None and not (causal and window >= 1):
        raise InvalidInput(
            f"window is {window} with causal={causal}: expected at least 1, with causal=True"
        )
    if tile < 1:
        raise InvalidInput(f"tile is {tile}: expected at least 1 bar")
    tiles = _Tiles(
        q_BTHD.shape[1], k_BTHD.shape[1], tile, causal, window, key_mask_BT, q_BTHD.device
    )
    q_BHTD, k_BHTD, v_BHTD = (x.transpose(1, 2) for x in (q_BTHD, k_BTHD, v_BTHD))
    o_BHTD: Tensor = _TiledAttention.apply(q_BHTD, k_BHTD, v_BHTD, tiles)  # type: ignore[no-untyped-call]
    return o_BHTD.transpose(1, 2)


@dataclass(frozen=True)
class _Tiles:
    """How the bars are cut into tiles, and who sees whom."""

    n_queries: int
    n_keys: int
    size: int
    causal: bool
    window: int | None
    key_mask_BT: Tensor | None
    device: torch.device

    @property
    def of_queries(self) -> Iterator[slice]:
        """Yield the query tiles."""
        return self._cut(self.n_queries)

    @property
    def of_keys(self) -> Iterator[slice]:
        """Yield the key tiles."""
        return self._cut(self.n_keys)

    def _cut(self, n_bars: int) -> Iterator[slice]:
        for start in range(0, n_bars, self.size):
            yield slice(start, min(start + self.size, n_bars))

    def seen_by(self, queries: slice) -> list[slice]:
        """Return the key tiles of which some query of a tile may see a key."""
        return [keys for keys in self.of_keys if self._meet(queries, keys)]

    def that_see(self, keys: slice) -> list[slice]:
        """Return the query tiles of which some query may see a key of a tile."""
        return [queries for queries in self.of_queries if self._meet(queries, keys)]

    def visible(self, queries: slice, keys: slice) -> Tensor | None:
        """Return which keys each query sees, broadcastable to BHQK; None where it sees all."""
        seen = self._within_span(queries, keys)
        if self.key_mask_BT is None:
            return seen
        queries_B1Q1 = self.key_mask_BT[:, None, queries, None]
        keys_B11K = self.key_mask_BT[:, None, None, keys]
        present_B1QK = queries_B1Q1 & keys_B11K
        return present_B1QK if seen is None else present_B1QK & seen

    def _meet(self, queries: slice, keys: slice) -> bool:
        if self.causal and keys.start >= queries.stop:
            return False
        return self.window is None or keys.stop > queries.start - self.window + 1

    def _within_span(self, queries: slice, keys: slice) -> Tensor | None:
        past_is_whole = keys.stop <= queries.start + 1
        window_is_whole = self.window is None or keys.start > queries.stop - 1 - self.window
        if not self.causal or (past_is_whole and window_is_whole):
            return None
        bars_Q = torch.arange(queries.start, queries.stop, device=self.device)
        bars_K = torch.arange(keys.start, keys.stop, device=self.device)
        age_QK = bars_Q[:, None] - bars_K
        seen_QK = age_QK >= 0
        return seen_QK if self.window is None else seen_QK & (age_QK < self.window)


class _TiledAttention(torch.autograd.Function):
    """The forward pass and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  (PyTorch's own, untyped)
        q_BHTD: Tensor,
        k_BHTD: Tensor,
        v_BHTD: Tensor,
        tiles: _Tiles,
    ) -> Tensor:
        o_BHTD = torch.empty_like(q_BHTD)
        lse_BHT1 = q_BHTD.new_empty((*q_BHTD.shape[:3], 1), dtype=_wide(q_BHTD))
        with torch.autocast(q_BHTD.device.type, enabled=False):
            for queries in tiles.of_queries:
                o_BHQD, lse_BHT1[:, :, queries] = _online_softmax(
                    q_BHTD, k_BHTD, v_BHTD, queries, tiles
                )
                o_BHTD[:, :, queries] = o_BHQD.to(o_BHTD.dtype)
        ctx.save_for_backward(q_BHTD, k_BHTD, v_BHTD, o_BHTD, lse_BHT1)
        ctx.tiles = tiles
        return o_BHTD

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401  (PyTorch's own, untyped)
        do_BHTD: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        q_BHTD, k_BHTD, v_BHTD, o_BHTD, lse_BHT1 = ctx.saved_tensors
        with torch.autocast(q_BHTD.device.type, enabled=False):
            gradients = _gradients(q_BHTD, k_BHTD, v_BHTD, o_BHTD, lse_BHT1, do_BHTD, ctx.tiles)
        dq_BHTD, dk_BHTD, dv_BHTD = (x.to(q_BHTD.dtype) for x in gradients)
        return dq_BHTD, dk_BHTD, dv_BHTD, None


def _online_softmax(
    q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, queries: slice, tiles: _Tiles
) -> tuple[Tensor, Tensor]:
    """Return o_BHQD of a query tile, and the logarithm lse_BHQ1 of the sum of exp(scores).

    The sum is kept relative to the largest score so far; when a larger one comes, what was
    summed up before shrinks by exp(old - new). A query without any key has the logarithm +inf,
    so that its weights, exp(score - lse), come out as zeros in the backward pass.
    """
    q_BHQD = q_BHTD[:, :, queries].to(_wide(q_BHTD))
    sum_BHQD = torch.zeros_like(q_BHQD)
    total_BHQ1 = torch.zeros_like(q_BHQD[..., :1])
    largest_BHQ1 = torch.full_like(total_BHQ1, -math.inf)
    for keys in tiles.seen_by(queries):
        scores_BHQK = _scores(q_BHQD, k_BHTD[:, :, keys], tiles.visible(queries, keys))
        before_BHQ1 = largest_BHQ1
        largest_BHQ1 = torch.maximum(before_BHQ1, scores_BHQK.amax(-1, keepdim=True))
        # Where no key was seen yet the largest score is -inf, and -inf less itself is NaN.
        shift_BHQ1 = largest_BHQ1.where(largest_BHQ1 > -math.inf, 0.0)
        weights_BHQK = (scores_BHQK - shift_BHQ1).exp()
        shrink_BHQ1 = (before_BHQ1 - shift_BHQ1).exp()
        total_BHQ1 = shrink_BHQ1 * total_BHQ1 + weights_BHQK.sum(-1, keepdim=True)
        sum_BHQD = shrink_BHQ1 * sum_BHQD + weights_BHQK @ v_BHTD[:, :, keys].to(q_BHQD.dtype)
    sees_BHQ1 = total_BHQ1 > 0
    o_BHQD = sum_BHQD / total_BHQ1.where(sees_BHQ1, 1.0)
    return o_BHQD, (largest_BHQ1 + total_BHQ1.log()).where(sees_BHQ1, math.inf)


def _gradients(
    q_BHTD: Tensor,
    k_BHTD: Tensor,
    v_BHTD: Tensor,
    o_BHTD: Tensor,
    lse_BHT1: Tensor,
    do_BHTD: Tensor,
    tiles: _Tiles,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq_BHTD, dk_BHTD and dv_BHTD, the weights of each tile computed again.

    With the weights P = exp(S - lse) and the output O = P V:

        dV = Pᵀ dO        dP = dO Vᵀ        dS = P ∘ (dP - rowsum(dO ∘ O))
        dQ = dS K / sqrt(D)                 dK = dSᵀ Q / sqrt(D)
    """
    wide, scale = lse_BHT1.dtype, 1 / math.sqrt(q_BHTD.shape[-1])
    dots_BHT1 = (do_BHTD.to(wide) * o_BHTD.to(wide)).sum(-1, keepdim=True)
    dq_BHTD, dk_BHTD, dv_BHTD = (torch.zeros_like(x, dtype=wide) for x in (q_BHTD, k_BHTD, v_BHTD))
    for keys in tiles.of_keys:
        k_BHKD, v_BHKD = k_BHTD[:, :, keys].to(wide), v_BHTD[:, :, keys].to(wide)
        for queries in tiles.that_see(keys):
            q_BHQD, do_BHQD = q_BHTD[:, :, queries].to(wide), do_BHTD[:, :, queries].to(wide)
            scores_BHQK = _scores(q_BHQD, k_BHKD, tiles.visible(queries, keys))
            weights_BHQK = (scores_BHQK - lse_BHT1[:, :, queries]).exp()
            dweights_BHQK = do_BHQD @ v_BHKD.transpose(-2, -1)
            dscores_BHQK = weights_BHQK * (dweights_BHQK - dots_BHT1[:, :, queries]) * scale
            dv_BHTD[:, :, keys] += weights_BHQK.transpose(-2, -1) @ do_BHQD
            dk_BHTD[:, :, keys] += dscores_BHQK.transpose(-2, -1) @ q_BHQD
            dq_BHTD[:, :, queries] += dscores_BHQK @ k_BHKD
    return dq_BHTD, dk_BHTD, dv_BHTD


def _scores(q_BHQD: Tensor, k_BHKD: Tensor, seen: Tensor | None) -> Tensor:
    """Return one tile of scores_BHQK, -inf where a key is not seen."""
    scores_BHQK = q_BHQD @ k_BHKD.to(q_BHQD.dtype).transpose(-2, -1) / math.sqrt(q_BHQD.shape[-1])
    if seen is None:
        return scores_BHQK
    return scores_BHQK.masked_fill(~seen, -math.inf)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
