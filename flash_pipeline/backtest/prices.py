"""The prices that a simulation trades and marks at.

T bars · S symbols
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import iso_utc

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BLOCK = 8_192
"""Bars that are worked on together where that spares memory: those of a few symbols fit a cache."""

_ARRAYS = ("open_TS", "close_TS", "low_TS", "high_TS", "turnover_TS")


@dataclass(frozen=True, eq=False)
class Prices:
    """Opens and closes on a complete, evenly spaced grid of bars.

    A bar that a symbol lacks is NaN. Prices below or at zero count as missing too: what matters
    is whether a position is held there, which `simulate` checks. The arrays are taken as they
    are and must not be changed afterwards.

    Raises
    ------
    InvalidInput
        If the shapes disagree, there are fewer than 2 bars, the bars are not evenly spaced, lows
        are given without highs, or a bar's range does not hold its open and close.
    """

    start_time_T: IntArray
    """Open of every bar, ms since the epoch, UTC, oldest first."""
    open_TS: FloatArray
    """First price of the bar in quote coin, where orders are filled."""
    close_TS: FloatArray
    """Last price of the bar in quote coin, where positions are marked."""
    symbols: tuple[str, ...]
    """Names of the columns, in order."""
    low_TS: FloatArray | None = None
    """Lowest price of the bar in quote coin; None checks liquidation at opens and closes only."""
    high_TS: FloatArray | None = None
    """Highest price of the bar in quote coin, given together with the lows."""
    turnover_TS: FloatArray | None = None
    """Quote coin traded in the bar, which market impact needs; NaN or 0 where not known, infinity
    where orders are to have none."""
    real_TS: BoolArray | None = None
    """Where the symbol has a bar of its own, of `carried_forward`: elsewhere it is not traded and
    what is held stays as it is. None where no bar is filled in."""

    def __post_init__(self) -> None:
        # Fields are set around the freeze once, so that every reader finds these dtypes.
        object.__setattr__(self, "start_time_T", np.asarray(self.start_time_T, dtype=np.int64))
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        self._check_shapes()
        self._check_grid()
        self._check_ranges()

    @cached_property
    def moves(self) -> "Moves":
        """What an account earns of these prices, computed once for all simulations on them."""
        return _moves(self)

    @property
    def bar_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return int(self.start_time_T[1] - self.start_time_T[0])

    def describe(self, bar: int) -> str:
        """Name a bar for a message, such as `bar 3 (2024-01-01T03:00Z)`."""
        return f"bar {bar} ({iso_utc(int(self.start_time_T[bar]))})"

    def carried_forward(self) -> "Prices":
        """Return these prices with every hole after a symbol's first close filled.

        A missing bar opens and closes at the last close before it, so it earns nothing and the
        whole move falls on the open of the first bar after the hole. Only the past is used. Bars
        before a symbol's first close stay NaN. `real_TS` says which bars are no filled ones: a
        price that is carried marks a position, and nothing is traded at it.
        """
        present_TS = is_price(self.open_TS) & is_price(self.close_TS)
        if self.real_TS is not None:
            present_TS &= self.real_TS
        bar_T1 = np.arange(len(self.start_time_T))[:, None]
        last_TS = np.maximum.accumulate(np.where(present_TS, bar_T1, -1), axis=0)
        carried_TS = np.take_along_axis(self.close_TS, np.maximum(last_TS, 0), axis=0)
        carried_TS[last_TS < 0] = np.nan

        def filled(price_TS: FloatArray | None) -> FloatArray | None:
            return None if price_TS is None else np.where(present_TS, price_TS, carried_TS)

        return replace(
            self,
            open_TS=np.where(present_TS, self.open_TS, carried_TS),
            close_TS=np.where(present_TS, self.close_TS, carried_TS),
            low_TS=filled(self.low_TS),
            high_TS=filled(self.high_TS),
            real_TS=present_TS if bool(((last_TS >= 0) & ~present_TS).any()) else None,
        )

    def _check_shapes(self) -> None:
        expected = (len(self.start_time_T), len(self.symbols))
        if expected[0] < 2:
            raise InvalidInput(f"{expected[0]} bars given: a fill needs the bar after the decision")
        for name in (*_ARRAYS, "real_TS"):
            array_TS = getattr(self, name)
            if array_TS is not None and array_TS.shape != expected:
                raise InvalidInput(
                    f"{name} has shape {array_TS.shape}: expected [bars, symbols] {expected}"
                )

    def _check_grid(self) -> None:
        step_T = np.diff(self.start_time_T)
        if step_T[0] <= 0 or np.any(step_T != step_T[0]):
            bar = int(np.argmax(step_T != max(int(step_T[0]), 1))) + 1
            raise InvalidInput(
                f"{self.describe(bar)} starts {step_T[bar - 1]} ms after the bar before it: "
                f"expected even steps, the first is {step_T[0]} ms"
            )

    def _check_ranges(self) -> None:
        if self.low_TS is None or self.high_TS is None:
            if self.low_TS is not self.high_TS:
                raise InvalidInput("lows and highs are given one without the other: expected both")
            return
        # Comparisons with NaN are false: a missing bar is no wrong one.
        for price_TS in (self.open_TS, self.close_TS):
            bad_TS = (price_TS < self.low_TS) | (price_TS > self.high_TS)
            if bad_TS.any():
                bar, column = np.unravel_index(int(np.argmax(bad_TS)), bad_TS.shape)
                raise InvalidInput(
                    f"{self.symbols[column]} at {self.describe(int(bar))} traded at "
                    f"{price_TS[bar, column]}, outside its range from {self.low_TS[bar, column]} "
                    f"to {self.high_TS[bar, column]}"
                )


@dataclass(frozen=True, eq=False)
class Moves:
    """What one unit of quote coin in a symbol gains, [S, T]: numpy is fastest along a long axis.

    Where a price is missing it is replaced by 1, which no position may depend on.
    """

    prices: Prices
    """Of which they are."""
    bar_ST: FloatArray
    """`close / open - 1` of the bar."""
    next_ST: FloatArray
    """`next open / open`; 1 at the last bar."""
    open_valid_ST: BoolArray | None
    """Where there is an open to trade at; None if everywhere."""
    close_valid_ST: BoolArray | None
    """Where there is a close to mark at; None if everywhere."""
    low_ST: FloatArray | None
    """`low / open - 1`, at most 0; 0 where not known, None if not given."""
    high_ST: FloatArray | None
    """`high / open - 1`, at least 0; 0 where not known, None if not given."""

    @cached_property
    def open_ST(self) -> FloatArray:
        """Opens in quote coin."""
        open_ST = np.ascontiguousarray(self.prices.open_TS.T)
        return open_ST if self.open_valid_ST is None else np.where(self.open_valid_ST, open_ST, 1.0)

    @property
    def gap_ST(self) -> FloatArray:
        """`(next open - close) / open`: from this close to the next open; 0 at the last bar."""
        gap_ST = self.next_ST - self.bar_ST - 1
        gap_ST[:, -1] = 0.0
        return gap_ST

    @cached_property
    def largest_move(self) -> float:
        """Largest size of a move within a bar."""
        moves_ST = (self.bar_ST, self.low_ST, self.high_ST)
        return max(float(max(-m_ST.min(), m_ST.max())) for m_ST in moves_ST if m_ST is not None)

    @cached_property
    def largest_next(self) -> float:
        """Largest ratio of an open to the one before."""
        return float(self.next_ST.max())


def _moves(prices: Prices) -> Moves:
    """Compute the moves some bars at a time, whose transposed prices stay in a core's cache."""
    n_bars, n_symbols = prices.open_TS.shape
    bar_ST, next_ST = np.empty((n_symbols, n_bars)), np.empty((n_symbols, n_bars))
    whole = True
    for start in range(0, n_bars, BLOCK):
        end = min(start + BLOCK, n_bars)
        open_ST = np.array(prices.open_TS[start : end + 1].T, order="C")  # and the next open
        close_ST = np.array(prices.close_TS[start:end].T, order="C")
        for price_ST in (open_ST, close_ST):
            if not (price_ST.min() > 0 and price_ST.max() < np.inf):  # true for a NaN
                whole = False
                price_ST[~is_price(price_ST)] = 1.0
        followed = start + open_ST.shape[1] - 1
        np.divide(open_ST[:, 1:], open_ST[:, :-1], out=next_ST[:, start:followed])
        close_ST /= open_ST[:, : end - start]
        np.subtract(close_ST, 1, out=bar_ST[:, start:end])
    next_ST[:, -1] = 1.0
    return Moves(
        prices=prices,
        bar_ST=bar_ST,
        next_ST=next_ST,
        open_valid_ST=None if whole else is_price(prices.open_TS.T),
        close_valid_ST=None if whole else is_price(prices.close_TS.T),
        low_ST=_extreme(prices.low_TS, prices.open_TS),
        high_ST=_extreme(prices.high_TS, prices.open_TS),
    )


def _extreme(price_TS: FloatArray | None, open_TS: FloatArray) -> FloatArray | None:
    if price_TS is None:
        return None
    known_TS = is_price(price_TS) & is_price(open_TS)
    ratio_TS = np.ones_like(price_TS)
    np.divide(price_TS, open_TS, out=ratio_TS, where=known_TS)
    return np.ascontiguousarray(ratio_TS.T) - 1


def turnover_from_volume(
    volume_TS: FloatArray, low_TS: FloatArray, high_TS: FloatArray, close_TS: FloatArray
) -> FloatArray:
    """Estimate the quote coin traded in each bar from the base coin, for sources that drop it.

    Parameters
    ----------
    volume_TS : array [T, S]
        Base coin traded in the bar.
    low_TS, high_TS, close_TS : array [T, S]
        Prices of the bar in quote coin.

    Returns
    -------
    array [T, S]
        `volume × (low + high + close) / 3`: the mean price of the trades lies in the bar's range.
    """
    return np.asarray(volume_TS * (low_TS + high_TS + close_TS) / 3)


def is_price(price_TS: FloatArray) -> BoolArray:
    """Return where an order could be filled: finite and above zero, any shape."""
    return np.isfinite(price_TS) & (price_TS > 0)
