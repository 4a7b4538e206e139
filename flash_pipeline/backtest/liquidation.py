"""Where an account ends because its margin is gone.

All positions share one margin, as in Bybit's cross margin. When the equity is no more than the
maintenance margin, the exchange takes them over at the price that leaves nothing: the account is
worth zero from there on, and a loss beyond it is the exchange's.

T bars · S symbols
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.prices import FloatArray, Moves


@dataclass(frozen=True, eq=False)
class Liquidation:
    """The end of an account."""

    bar: int
    """Bar in which it comes."""
    at_open: bool
    """Whether the bar's open finds the margin gone already, so that nothing is traded there."""
    share_S: FloatArray
    """Part of the last loss that each symbol bears, by what it lost; sums to 1."""


@dataclass(frozen=True, eq=False)
class Marks:
    """An account as booked, in fractions of the equity at each bar's open before its fill."""

    held_ST: FloatArray
    """Position from the open on."""
    gross_T: FloatArray
    """Sum of its sizes."""
    cost_T: FloatArray
    """Costs of the fill."""
    close_T: FloatArray
    """Equity at the close."""
    next_T: FloatArray
    """Equity at the next open, after funding."""


def find_liquidation(marks: Marks, moves: Moves, maintenance_rate: float) -> Liquidation | None:
    """Return the first bar in which the margin is gone, None if it never is.

    Within a bar every symbol is marked at its worst price at once, longs at the low and shorts at
    the high: in which order they came is not known. Without lows and highs only opens and closes
    are looked at, and a ruin that the close recovers from is not seen. In a bar in which no symbol
    that is held trades, nothing can be taken over: as long as the equity is above 0, the account
    lives on to the first open of one of them.

    Parameters
    ----------
    marks : Marks
        The account, [S, T].
    moves : Moves
        Of the prices.
    maintenance_rate : float
        Margin to be kept, a fraction of the notional.
    """
    if _is_far(marks, moves, maintenance_rate):
        return None
    held_ST = marks.held_ST
    worst_ST = held_ST * moves.bar_ST
    if moves.low_ST is not None and moves.high_ST is not None:
        worst_ST = np.minimum(held_ST * moves.low_ST, held_ST * moves.high_ST)
    worst_T = 1 - marks.cost_T + worst_ST.sum(axis=0)
    in_bar_T = worst_T <= maintenance_rate * np.abs(held_ST + worst_ST).sum(axis=0)
    margin_T = maintenance_rate * np.abs(held_ST * moves.next_ST).sum(axis=0)
    at_open_T = marks.next_T <= margin_T
    at_open_T[-1] = False  # there is no next open
    if moves.prices.real_TS is not None:
        held, real_ST = held_ST != 0, moves.prices.real_TS.T
        in_bar_T &= (held & real_ST).any(axis=0) | (worst_T <= 0)
        opens_T = (held[:, :-1] & real_ST[:, 1:]).any(axis=0)
        at_open_T[:-1] &= opens_T | (marks.next_T[:-1] <= 0)
    ended_T = (in_bar_T | at_open_T) & (marks.gross_T > 0)
    if not ended_T.any():
        return None
    bar = int(np.argmax(ended_T))
    held_S = held_ST[:, bar]
    if in_bar_T[bar]:
        return Liquidation(bar, at_open=False, share_S=_shares(worst_ST[:, bar], held_S))
    gained_S = held_S * (moves.next_ST[:, bar] - moves.bar_ST[:, bar] - 1)
    return Liquidation(bar + 1, at_open=True, share_S=_shares(gained_S, held_S))


def _is_far(marks: Marks, moves: Moves, maintenance_rate: float) -> bool:
    """Tell whether not even the largest position in the worst bar could be liquidated."""
    gross, worst = float(marks.gross_T.max()), moves.largest_move
    margin = maintenance_rate * gross
    in_bar = 1 - float(marks.cost_T.max()) - gross * worst > margin * (1 + worst)
    return in_bar and float(marks.next_T.min()) > margin * moves.largest_next


def _shares(gain_S: FloatArray, held_S: FloatArray) -> FloatArray:
    loss_S = np.maximum(-gain_S, 0.0)
    if loss_S.sum() <= 0:  # the margin went by a growing notional or by costs
        loss_S = np.abs(held_S)
    return np.asarray(loss_S / loss_S.sum())
