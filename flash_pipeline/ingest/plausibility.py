"""Soft checks of the stored candles: what is unlikely, and worth a person's look.

Letters of array names: T candles in time, S symbols.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.ingest.merge import lay_over, starts_of
from flash_pipeline.market import Month, iso_utc
from flash_pipeline.storage.klines import KlineStore

Values = npt.NDArray[np.float64]

_LEAST_JUMP = 0.005
"""Open against the close before, as a fraction: in some hours they differ by the spread."""
_LEAST_SCALE = 0.0005
"""Usual move, as a fraction, of a price that hardly ever moves."""
_JUMP_SCALES = 10.0
"""The same in usual moves, whichever is more."""
_SPIKE_SCALES = 25.0
"""A move so many times the usual one that turns back at once is a spike."""
_SHARED_SCALES = 5.0
"""Another symbol that moves so the same way in the same candle shares the move."""
_RETURNED = 0.3
"""Share of a spike that may be left after the next candle."""
_NEAR_EMPTY = 0.01
"""Volume of a symbol's first candle as a share of the next day's median."""
_DAY = 24
_NAMED = 3


def doubt_klines(store: KlineStore, symbols: Sequence[str], months: Sequence[Month]) -> list[str]:
    """Return what is unlikely about the candles of some months, one sentence each.

    - an open far from the close before;
    - a close, high or low far from its neighbours, by the symbol's median move, that the next
      candle takes back and that no other symbol shares: a crash or a rally of the whole market,
      and a move that stays, however large, pass;
    - a first candle with next to no volume, as listings begin with at times.

    Parameters
    ----------
    symbols : sequence of str
        Looked at beside each other.
    months : sequence of Month
        Those of them that are stored are looked at.
    """
    moves = [_moves(_read(store, symbol, months), store) for symbol in symbols]
    doubts = []
    for n, symbol in enumerate(symbols):
        others = moves[:n] + moves[n + 1 :]
        found = {
            "opens far from the close before": _jumps(moves[n]),
            "moves that turned back at once, in this symbol alone": _spikes(moves[n], others),
            "first candles with next to no volume": _near_empty(moves[n], store, symbol),
        }
        doubts += [_sentence(symbol, what, starts) for what, starts in found.items() if len(starts)]
    return doubts


@dataclass(frozen=True)
class _Moves:
    """One symbol's candles as log moves [T], NaN where a neighbour is missing."""

    start_T: npt.NDArray[np.int64]
    jump_T: Values  # close before to open
    close_T: Values  # close before to close
    after_T: Values  # close to the close after
    up_T: Values  # highest price around to the high
    down_T: Values  # lowest price around to the low, negative
    volume_T: Values
    scale: float  # the usual move: a robust standard deviation of close_T


def _read(store: KlineStore, symbol: str, months: Sequence[Month]) -> pa.Table:
    tables = [store.read_month(symbol, month) for month in store.months(symbol) if month in months]
    return lay_over(store.schema.empty_table(), tables)


# Prices of zero fail the hard checks; here they just are no moves.
@np.errstate(divide="ignore", invalid="ignore")
def _moves(candles: pa.Table, store: KlineStore) -> _Moves:
    start_T = starts_of(candles)
    open_T, high_T, low_T, close_T = (
        np.log(candles[name].to_numpy()) for name in ("open", "high", "low", "close")
    )
    apart = np.diff(start_T) != store.interval.milliseconds
    before, after = _shifted(close_T, apart, 1), _shifted(close_T, apart, -1)
    move_T = close_T - before
    known = move_T[np.isfinite(move_T)]
    # The median of |x| is 0.6745 standard deviations of a normal x; a few spikes do not change it.
    scale = float(np.median(np.abs(known))) / 0.6745 if len(known) else 0.0
    highs = [_shifted(high_T, apart, 1), _shifted(high_T, apart, -1), open_T, close_T]
    lows = [_shifted(low_T, apart, 1), _shifted(low_T, apart, -1), open_T, close_T]
    return _Moves(
        start_T,
        open_T - before,
        move_T,
        after - close_T,
        high_T - np.maximum.reduce(highs),
        low_T - np.minimum.reduce(lows),
        candles["volume"].to_numpy(),
        max(scale, _LEAST_SCALE),
    )


def _shifted(value_T: Values, apart: npt.NDArray[np.bool_], by: int) -> Values:
    """Return the values of the candle before (1) or after (-1); NaN where it is missing."""
    shifted = np.full(len(value_T), np.nan)
    if by > 0:
        shifted[1:] = np.where(apart, np.nan, value_T[:-1])
    else:
        shifted[:-1] = np.where(apart, np.nan, value_T[1:])
    return shifted


def _jumps(moves: _Moves) -> npt.NDArray[np.int64]:
    limit = max(_LEAST_JUMP, _JUMP_SCALES * moves.scale)
    return moves.start_T[np.abs(moves.jump_T) > limit]


def _spikes(moves: _Moves, others: Sequence[_Moves]) -> npt.NDArray[np.int64]:
    limit = _SPIKE_SCALES * moves.scale
    with np.errstate(invalid="ignore"):
        left_T = np.abs(moves.close_T + moves.after_T)
    turned = (np.abs(moves.close_T) > limit) & (left_T < _RETURNED * np.abs(moves.close_T))
    up = (turned & (moves.close_T > 0)) | (moves.up_T > limit)
    down = (turned & (moves.close_T < 0)) | (moves.down_T < -limit)
    spike = np.flatnonzero(up | down)
    alone = [not _shared(moves.start_T[t], others, rose=bool(up[t])) for t in spike]
    starts: npt.NDArray[np.int64] = moves.start_T[spike[np.array(alone, dtype=bool)]]
    return starts


def _shared(start: np.int64, others: Sequence[_Moves], *, rose: bool) -> bool:
    for other in others:
        t = int(np.searchsorted(other.start_T, start))
        if t == len(other.start_T) or other.start_T[t] != start:
            continue
        limit = _SHARED_SCALES * other.scale
        up, down = max(other.close_T[t], other.up_T[t]), min(other.close_T[t], other.down_T[t])
        if (rose and up > limit) or (not rose and down < -limit):
            return True
    return False


def _near_empty(moves: _Moves, store: KlineStore, symbol: str) -> npt.NDArray[np.int64]:
    months = store.months(symbol)
    if len(moves.start_T) <= _DAY or Month.containing(int(moves.start_T[0])) != months[0]:
        return moves.start_T[:0]
    usual = float(np.median(moves.volume_T[1 : _DAY + 1]))
    return moves.start_T[:1] if moves.volume_T[0] < _NEAR_EMPTY * usual else moves.start_T[:0]


def _sentence(symbol: str, what: str, starts: npt.NDArray[np.int64]) -> str:
    named = ", ".join(iso_utc(int(start)) for start in starts[:_NAMED])
    return f"{symbol}: {len(starts)} {what}: {named}" + (" ..." if len(starts) > _NAMED else "")
