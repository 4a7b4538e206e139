"""The limit orders of one block of time: where each rests, from when, and until when.

Orders are independent points in time and distance, so that any block of ten minutes can be drawn
alone. What happens to one depends on the price path: a bid ends when it is cancelled, when a
market order hits it at the best price, or when the price falls below it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.exchange.simulation.chunks import Floats, random_stream
from flash_pipeline.exchange.simulation.flow_model import (
    BANDS,
    CANCEL_RATE,
    HIT_RATE,
    LIMIT_RATE,
    LONGEST_S,
    Lean,
)
from flash_pipeline.exchange.simulation.price_path import STEP_MS

BLOCK_STEPS = 600_000 // STEP_MS
"""Steps of a block: ten minutes."""

LONGEST_STEPS = round(LONGEST_S * 1000) // STEP_MS
"""Steps that an order rests at most."""

_STEP_S = STEP_MS / 1000
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Orders:
    """The orders of one side in one block, those that come to rest at all."""

    price: npt.NDArray[np.int32]
    """Price steps, [orders]."""
    born: npt.NDArray[np.int32]
    """First step at which it rests, from the block's first, [orders]."""
    gone: npt.NDArray[np.int32]
    """First step at which it rests no more, up to `LONGEST_STEPS` after the block, [orders]."""


@dataclass(frozen=True)
class Surroundings:
    """What the orders of a block meet, at each of its steps and of `LONGEST_STEPS` after it."""

    reference: Counts
    """Highest price step at which a bid can rest; asks rest above it, [steps]."""
    near: Floats
    """z of the near distances, [steps]."""
    deep: Floats
    """z of the deep distances, [steps]."""


def draw_orders(
    seed: int, symbol: str, block: int, band: int, around: Surroundings, lean: Lean
) -> tuple[Orders, Orders]:
    """Return the bids and the asks that arrive in a block at the distances of a band.

    Parameters
    ----------
    block : int
        Number of the block since the epoch.
    band : int
        Position in `BANDS`.
    """
    random = random_stream(seed, symbol, f"orders {band}", block)
    rates = 2 * LIMIT_RATE[slice(*BANDS[band])] * _STEP_S  # of both sides, per step
    count = int(random.poisson(rates.sum() * BLOCK_STEPS))
    bounds = np.cumsum(rates)
    distance = np.searchsorted(bounds[:-1] / bounds[-1], random.random(count), side="right")
    distance += BANDS[band][0]
    time = random.random(count) * BLOCK_STEPS
    bids = random.random(count) < _bid_share(distance, time, around, lean)
    rest = random.standard_exponential(count) / (CANCEL_RATE[distance] * _STEP_S)
    until = np.ceil(time + np.minimum(rest, LONGEST_STEPS - 1)).astype(np.int32)
    hits = random.geometric(-np.expm1(-HIT_RATE * _STEP_S), count)
    born = np.ceil(time).astype(np.int32)
    sides = []
    for sign, mine in ((1, bids), (-1, ~bids)):
        # Asks are bids of the price path turned upside down.
        wall = around.reference if sign > 0 else -(around.reference + 1)
        price = (wall[born[mine]] - distance[mine]).astype(np.int64)
        gone = _hit(wall, price, born[mine], until[mine], hits[mine])
        gone = _swept(wall, price, born[mine], gone)
        kept = (gone > born[mine]) & (sign * price >= 1)
        sides.append(Orders((sign * price[kept]).astype(np.int32), born[mine][kept], gone[kept]))
    return sides[0], sides[1]


def _bid_share(distance: Counts, time: Floats, around: Surroundings, lean: Lean) -> Floats:
    """Return the probability of each order to be a bid."""
    step = time.astype(np.int32)
    share = np.full(len(distance), 0.5)
    for (low, high), z in ((lean.near, around.near), (lean.deep, around.deep)):
        leans = (distance >= low) & (distance < high)
        share[leans] = (1 + lean.strength * np.tanh(z[step[leans]])) / 2
    return share


def _hit(
    wall: Counts,
    price: Counts,
    born: npt.NDArray[np.int32],
    until: npt.NDArray[np.int32],
    hits: Counts,
) -> npt.NDArray[np.int32]:
    """Return `until`, or the step at which a market order comes first.

    Each step that an order spends at the best price hits it with the same probability, so it
    survives a geometric number (`hits`) of such steps: the visits of the path to a price, one
    after another, are neighbours in the path sorted by price and step.
    """
    steps = len(wall)
    lowest = int(wall.min())
    visits = np.sort((wall - lowest) * steps + np.arange(steps))
    place = np.searchsorted(visits, (price - lowest) * steps + born) + hits
    visit = visits[np.minimum(place, steps - 1)]
    met = (place < steps) & (price >= lowest) & (visit // steps == price - lowest)
    return np.where(met, np.minimum(until, visit % steps), until).astype(np.int32)


def _swept(
    wall: Counts, price: Counts, born: npt.NDArray[np.int32], until: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Return `until`, or the first step at which the path lies below the order's price.

    Minima over windows of doubling width (a sparse table) tell in two look-ups whether the path
    does before `until`; for those few, ever narrower windows are skipped to the step.
    """
    lows = _window_minima(wall)
    spans = np.maximum(until - born, 1)
    level = np.log2(spans).astype(np.int64)
    low = np.minimum(lows[level, born], lows[level, np.maximum(until - (1 << level), born)])
    swept = np.flatnonzero(low < price)
    at, below = born[swept].astype(np.int64), price[swept]
    for width in range(len(lows) - 1, -1, -1):
        clear = lows[width, np.minimum(at, len(wall) - 1)] >= below
        at += clear * (1 << width)
    gone = until.copy()
    gone[swept] = np.minimum(at, gone[swept])
    return gone


def _window_minima(wall: Counts) -> Counts:
    """Return the minimum of the 2**j steps from each step on, cut at the end, [j, steps]."""
    levels = LONGEST_STEPS.bit_length()
    lows = np.empty((levels, len(wall)), np.int64)
    lows[0] = wall
    for j in range(1, levels):
        half = 1 << (j - 1)
        lows[j] = lows[j - 1]
        lows[j, :-half] = np.minimum(lows[j - 1, :-half], lows[j - 1, half:])
    return lows
