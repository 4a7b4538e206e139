"""Positions that drift over several bars between two fills.

T bars · S symbols · K fills, each with the bars until the next
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.checks import later
from flash_pipeline.backtest.orders import Fills
from flash_pipeline.backtest.prices import BoolArray, FloatArray, IntArray, Moves


@dataclass(frozen=True, eq=False)
class Segments:
    """Positions between fills, in fractions of the equity before the fill that opened them."""

    fill_K: IntArray
    """Bar of each fill."""
    of_T: IntArray
    """Segment that each bar is in; -1 before the first fill."""
    value_ST: FloatArray
    """Signed position at each open, after a fill there."""
    gained_T: FloatArray
    """Gain of the segment up to each open, less funding; 0 at its fill."""
    ratio_SK: FloatArray
    """Open of the next fill over that of the segment's own."""
    funding_K: FloatArray
    """Funding paid by each segment, at the next fill included."""


def segment(
    wanted_ST: FloatArray, moves: Moves, traded_T: BoolArray, funding_ST: FloatArray | None
) -> Segments:
    """Follow the positions from fill to fill.

    Parameters
    ----------
    wanted_ST : array [S, T]
        Target in force at each open, the same over a segment.
    moves : Moves
        Of the prices, 1 where no position is held.
    traded_T : array [T]
        Bars with a fill.
    funding_ST : array [S, T] or None
        Rates paid at each open by the position before.
    """
    fill_K, of_T = np.flatnonzero(traded_T), np.cumsum(traded_T) - 1
    entry_ST = moves.open_ST[:, fill_K[np.maximum(of_T, 0)]]
    value_ST = wanted_ST * moves.open_ST / entry_ST
    paid_T = np.zeros(len(of_T))
    if funding_ST is not None:
        paid_T = np.einsum("st,st->t", later(value_ST * moves.next_ST), funding_ST)
    # Funding since the segment's fill: what is paid at a fill belongs to the segment before.
    total_T = np.cumsum(paid_T)
    started_T = total_T[fill_K[np.maximum(of_T, 0)]]
    next_K = np.append(fill_K[1:], len(of_T) - 1)
    return Segments(
        fill_K=fill_K,
        of_T=of_T,
        value_ST=value_ST,
        gained_T=(value_ST - wanted_ST).sum(axis=0) - (total_T - started_T),
        ratio_SK=moves.open_ST[:, next_K] / moves.open_ST[:, fill_K],
        funding_K=total_T[next_K] - total_T[fill_K],
    )


def expand(fills: Fills, spans: Segments) -> Fills:
    """Return fills at every open, [S, T], from those at the ends of segments."""
    cost_K, of_T = fills.cost_K, np.maximum(spans.of_T, 0)
    left_T = 1 + spans.gained_T - np.where(spans.of_T >= 0, cost_K[of_T], 0)
    left_T[spans.fill_K] = 1.0
    held_ST = np.zeros_like(spans.value_ST)
    np.divide(spans.value_ST, left_T, out=held_ST, where=left_T > 0)
    order_ST, cost_T, turnover_T = (np.zeros_like(a) for a in (held_ST, left_T, left_T))
    order_ST[:, spans.fill_K] = fills.order_SK
    cost_T[spans.fill_K], turnover_T[spans.fill_K] = cost_K, fills.turnover_K
    rate = fills.rate[:, of_T] if isinstance(fills.rate, np.ndarray) else fills.rate
    gross_T = np.abs(held_ST).sum(axis=0)
    return Fills(held_ST, order_ST, rate, cost_T, turnover_T, gross_T)
