"""Books straight from the embedded exchange's simulator, without its server and its text.

The same snapshots as those of its archive, which takes minutes a day to write, send and read.
"""

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.simulation.order_flow import Depth, OrderFlow
from flash_pipeline.exchange.simulation.price_path import STEP_MS
from flash_pipeline.order_book.snapshots import BookSeries, join_series, series_of_prices


def simulate_book(
    flow: OrderFlow, start: int, end: int, *, levels: int, cadence_ms: int = 1_000
) -> BookSeries:
    """Return the snapshots of a half-open range of time.

    Parameters
    ----------
    flow : OrderFlow
        Of one instrument.
    start, end : int
        Ms since the epoch, multiples of the cadence.
    levels : int
        Of each side.
    cadence_ms : int
        Milliseconds between two snapshots, a multiple of the simulator's 100.

    Raises
    ------
    InvalidInput
        If a value does not fit.
    """
    if cadence_ms < 1 or cadence_ms % STEP_MS or start % cadence_ms or start >= end:
        raise InvalidInput(
            f"a book from {start} to {end} every {cadence_ms} ms cannot be simulated: expected a "
            f"multiple of {STEP_MS} ms, a start on it, and an end after it"
        )
    instrument = flow.instrument
    tick, lot = float(instrument.tick_size), float(instrument.quantity_step)
    stride = cadence_ms // STEP_MS
    parts = []
    for part, *sides in flow.depth(range(start // STEP_MS, -(-end // STEP_MS), stride), levels):
        cells = [_nearest(depth, levels, sign) for depth, sign in zip(sides, (-1, 1), strict=True)]
        price_TLS, orders_TLS = (np.stack(each, axis=2) for each in zip(*cells, strict=True))
        step_T = np.asarray(part)
        parts.append(
            series_of_prices(
                instrument.symbol,
                step_T * STEP_MS,
                step_T // stride,
                np.round(price_TLS * (flow.ticks_per_step * tick), 12),
                np.round(orders_TLS * (flow.lots_per_order * lot), 12),
                tick_size=tick,
            )
        )
    return join_series(parts)


def _nearest(
    depth: Depth, levels: int, sign: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return price steps and orders of the nearest levels, [T, L]; NaN where a side ends."""
    outwards = depth.orders[:, ::sign]
    price = depth.first + np.arange(outwards.shape[1])[::sign]
    rank = np.cumsum(outwards > 0, axis=1, dtype=np.int32)
    row, column = np.nonzero((outwards > 0) & (rank <= levels))
    price_TL = np.full((len(outwards), levels), np.nan)
    orders_TL = price_TL.copy()
    place = rank[row, column] - 1
    price_TL[row, place] = price[column]
    orders_TL[row, place] = outwards[row, column]
    return price_TL, orders_TL
