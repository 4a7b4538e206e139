"""What a simulation refuses, with the bar and the symbol.

T bars · S symbols
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from flash_pipeline.backtest.prices import BLOCK, BoolArray, FloatArray, IntArray, Prices
from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.market import iso_utc

Scalar = TypeVar("Scalar", bound=np.generic)

GROSS_TOLERANCE = 1e-9
"""Rounding allowed above a cap."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Checked target weights, in force from the open after their decision."""

    wanted_ST: FloatArray
    """Position wanted at each open; bar 0 is in cash."""
    gross_T: FloatArray
    """Sum of its sizes."""


def checked_targets(
    targets_TS: FloatArray, prices: Prices, gross_cap: float, symbol_cap: float | None
) -> Targets:
    """Return targets that are finite and within the caps, the last row included."""
    for name, cap in (("gross_cap", gross_cap), ("symbol_cap", symbol_cap)):
        if cap is not None and not (np.isfinite(cap) and cap > 0):
            raise InvalidConfig(f"{name} is {cap!r}: expected a number above 0")
    targets_TS = shaped("target weights", targets_TS, prices)
    wanted_ST, gross_T = np.zeros(targets_TS.shape[::-1]), np.zeros(len(targets_TS))
    largest = 0.0
    for start in range(1, len(targets_TS), BLOCK):
        part = wanted_ST[:, start : start + BLOCK]
        part[:] = targets_TS[start - 1 : start - 1 + part.shape[1]].T
        size_ST = np.abs(part)
        np.sum(size_ST, axis=0, out=gross_T[start : start + BLOCK])
        largest = max(largest, float(size_ST.max()))
    last_S = np.abs(targets_TS[-1])
    most, largest = max(float(gross_T.max()), float(last_S.sum())), max(largest, *last_S.tolist())
    symbol_cap = np.inf if symbol_cap is None else symbol_cap
    if not (most <= gross_cap + GROSS_TOLERANCE and largest <= symbol_cap + GROSS_TOLERANCE):
        _refuse_targets(targets_TS.T, prices, gross_cap, symbol_cap)
    return Targets(wanted_ST, gross_T)


def _refuse_targets(
    target_ST: FloatArray, prices: Prices, gross_cap: float, symbol_cap: float
) -> None:
    """Name the first target that is not finite or above a cap."""
    reject("target weight", target_ST, ~np.isfinite(target_ST), prices)
    size_ST = np.abs(target_ST)
    gross_T = size_ST.sum(axis=0)
    if gross_T.max() > gross_cap + GROSS_TOLERANCE:
        bar = int(np.argmax(gross_T > gross_cap + GROSS_TOLERANCE))
        raise InvalidInput(
            f"gross weight at {prices.describe(bar)} is {gross_T[bar]:.6g}: "
            f"above the cap of {gross_cap:g}"
        )
    bar = int(np.argmax(size_ST.max(axis=0) > symbol_cap + GROSS_TOLERANCE))
    column = int(np.argmax(size_ST[:, bar]))
    raise InvalidInput(
        f"target weight of {prices.symbols[column]} at {prices.describe(bar)} is "
        f"{target_ST[column, bar]:.6g}: above the cap of {symbol_cap:g} a symbol"
    )


def check_times(time_T: IntArray | None, prices: Prices) -> None:
    """Refuse targets of other bars than the prices'."""
    if time_T is None:
        return
    time_T = np.asarray(time_T, dtype=np.int64)
    if time_T.shape != prices.start_time_T.shape:
        raise InvalidInput(
            f"the targets are of {len(time_T)} bars: expected the prices' "
            f"{len(prices.start_time_T)}"
        )
    if (time_T != prices.start_time_T).any():
        bar = int(np.argmax(time_T != prices.start_time_T))
        raise InvalidInput(
            f"row {bar} of the targets is of {iso_utc(int(time_T[bar]))}: expected that of "
            f"{prices.describe(bar)}"
        )


def checked_funding(
    funding_TS: FloatArray | None, held_ST: FloatArray, prices: Prices
) -> FloatArray | None:
    """Return the rates [S, T] paid at each open by the position of the bar before, or None."""
    if funding_TS is None:
        return None
    rate_ST = np.ascontiguousarray(shaped("funding rates", funding_TS, prices).T)
    if np.isfinite(rate_ST).all():
        return rate_ST
    unknown_ST = ~np.isfinite(rate_ST)
    reject("funding rate", rate_ST, unknown_ST & later(held_ST != 0), prices)
    return np.where(unknown_ST, 0.0, rate_ST)


def check_prices(held_ST: FloatArray, prices: Prices) -> None:
    """Refuse a position where there is no price to fill or mark it at."""
    open_ok_ST, close_ok_ST = prices.moves.open_valid_ST, prices.moves.close_valid_ST
    if open_ok_ST is None and close_ok_ST is None:
        return
    position_ST = held_ST != 0
    if open_ok_ST is not None:
        # The open after its last bar closes a position.
        filled_ST = position_ST | later(position_ST)
        reject("open", prices.open_TS.T, filled_ST & ~open_ok_ST, prices)
    if close_ok_ST is not None:
        reject("close", prices.close_TS.T, position_ST & ~close_ok_ST, prices)


def shaped(what: str, array_TS: FloatArray, prices: Prices) -> FloatArray:
    """Return an array that has the prices' shape."""
    array_TS = np.asarray(array_TS, dtype=np.float64)
    if array_TS.shape != prices.open_TS.shape:
        raise InvalidInput(
            f"{what} have shape {array_TS.shape}: expected the prices' {prices.open_TS.shape}"
        )
    return array_TS


def reject(what: str, array_ST: FloatArray, bad_ST: BoolArray, prices: Prices) -> None:
    """Name the first bad value, if there is one."""
    if bad_ST.any():
        bar = int(np.argmax(bad_ST.any(axis=0)))
        column = int(np.argmax(bad_ST[:, bar]))
        raise InvalidInput(
            f"{what} of {prices.symbols[column]} at {prices.describe(bar)} is "
            f"{array_ST[column, bar]}, and a position depends on it"
        )


def later(array_ST: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return every value one bar later, zeros in front."""
    later_ST = np.zeros_like(array_ST)
    later_ST[:, 1:] = array_ST[:, :-1]
    return later_ST
