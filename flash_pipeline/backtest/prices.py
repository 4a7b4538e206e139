"""The prices that a simulation trades and marks at.

T bars · S symbols
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flash_pipeline.errors import InvalidInput
from flash_pipeline.market import iso_utc

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prices:
    """Opens and closes on a complete, evenly spaced grid of bars.

    A bar that a symbol lacks is NaN. Prices below or at zero count as missing too: what matters
    is whether a position is held there, which `simulate` checks.

    Raises
    ------
    InvalidInput
        If the shapes disagree, there are fewer than 2 bars, or the bars are not evenly spaced.
    """

    start_time_T: IntArray
    """Open of every bar, ms since the epoch, UTC, oldest first."""
    open_TS: FloatArray
    """First price of the bar in quote coin, where orders are filled."""
    close_TS: FloatArray
    """Last price of the bar in quote coin, where positions are marked."""
    symbols: tuple[str, ...]
    """Names of the columns, in order."""

    def __post_init__(self) -> None:
        # Fields are set around the freeze once, so that every reader finds these dtypes.
        object.__setattr__(self, "start_time_T", np.asarray(self.start_time_T, dtype=np.int64))
        object.__setattr__(self, "open_TS", np.asarray(self.open_TS, dtype=np.float64))
        object.__setattr__(self, "close_TS", np.asarray(self.close_TS, dtype=np.float64))
        self._check_shapes()
        self._check_grid()

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
        whole move falls on the first bar after the hole. Only the past is used. Bars before a
        symbol's first close stay NaN.
        """
        present_TS = is_price(self.open_TS) & is_price(self.close_TS)
        bar_T1 = np.arange(len(self.start_time_T))[:, None]
        last_TS = np.maximum.accumulate(np.where(present_TS, bar_T1, -1), axis=0)
        carried_TS = np.take_along_axis(self.close_TS, np.maximum(last_TS, 0), axis=0)
        carried_TS[last_TS < 0] = np.nan
        return Prices(
            start_time_T=self.start_time_T,
            open_TS=np.where(present_TS, self.open_TS, carried_TS),
            close_TS=np.where(present_TS, self.close_TS, carried_TS),
            symbols=self.symbols,
        )

    def _check_shapes(self) -> None:
        expected = (len(self.start_time_T), len(self.symbols))
        if expected[0] < 2:
            raise InvalidInput(f"{expected[0]} bars given: a fill needs the bar after the decision")
        for name in ("open_TS", "close_TS"):
            shape = getattr(self, name).shape
            if shape != expected:
                raise InvalidInput(f"{name} has shape {shape}: expected [bars, symbols] {expected}")

    def _check_grid(self) -> None:
        step_T = np.diff(self.start_time_T)
        if step_T[0] <= 0 or np.any(step_T != step_T[0]):
            bar = int(np.argmax(step_T != max(int(step_T[0]), 1))) + 1
            raise InvalidInput(
                f"{self.describe(bar)} starts {step_T[bar - 1]} ms after the bar before it: "
                f"expected even steps, the first is {step_T[0]} ms"
            )


def is_price(price_TS: FloatArray) -> BoolArray:
    """Return where an order could be filled: finite and above zero, any shape."""
    return np.isfinite(price_TS) & (price_TS > 0)
