"""The levels of a simulated order flow: prices and sizes as the exchange writes them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.exchange.book import Book, Level
from flash_pipeline.exchange.decimals import decimal_texts
from flash_pipeline.exchange.instruments import Step
from flash_pipeline.exchange.simulation.order_flow import Depth, OrderFlow


@dataclass(frozen=True)
class Scale:
    """How price steps and counts of orders of a flow are written."""

    flow: OrderFlow
    """The flow."""

    def prices(self, steps: npt.NDArray[np.int64]) -> pa.Array:
        """Return price steps as decimals of the quote coin."""
        tick = Step.of(self.flow.instrument.tick_size)
        units = steps * (self.flow.ticks_per_step * tick.units)
        return decimal_texts(units / 10.0**tick.decimals)

    def sizes(self, orders: npt.NDArray[np.int64]) -> pa.Array:
        """Return counts of orders as decimals of the base coin; `0` for none."""
        lot = Step.of(self.flow.instrument.quantity_step)
        units = orders * (self.flow.lots_per_order * lot.units)
        return decimal_texts(units / 10.0**lot.decimals)


def book_at(flow: OrderFlow, step: int, levels: int) -> Book:
    """Return the nearest levels of a book at a step of time; a side may have fewer.

    Parameters
    ----------
    step : int
        Since the epoch.
    levels : int
        Of each side at most.
    """
    ((_, bids, asks),) = flow.depth(range(step, step + 1), levels)
    scale = Scale(flow)
    return Book(_levels(scale, bids, levels, -1), _levels(scale, asks, levels, 1))


def nearest_only(depth: Depth, levels: int, direction: int) -> npt.NDArray[np.int32]:
    """Return the counts of a side with 0 beyond its nearest levels, [times, prices].

    Parameters
    ----------
    direction : int
        1 where prices ascend away from the touch, as asks do, -1 for bids.
    """
    outwards = depth.orders[:, ::direction]
    rank = np.cumsum(outwards > 0, axis=1, dtype=np.int32)
    return np.where(rank <= levels, outwards, 0)[:, ::direction]


def _levels(scale: Scale, depth: Depth, levels: int, direction: int) -> list[Level]:
    orders = nearest_only(depth, levels, direction)[0]
    columns = np.flatnonzero(orders)[::direction]
    prices = scale.prices(columns + depth.first).to_pylist()
    sizes = scale.sizes(orders[columns].astype(np.int64)).to_pylist()
    return [list(level) for level in zip(prices, sizes, strict=True)]
