"""The simulated order book: what rests at each price, at any step of time.

    price path ──► signal ──► orders, block by block ──► counts per price ──► levels

Every block of ten minutes is drawn alone and no order outlives `LONGEST_S`, so the book at an
instant takes two blocks, whatever came before. Distances come in bands with streams of their own;
as many are drawn as the levels asked for can need, so that fewer levels are always the first ones
of more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.simulation.asset import Asset
from flash_pipeline.exchange.simulation.flow_model import BANDS, MARKET_RATE, Lean
from flash_pipeline.exchange.simulation.leaning import Signal
from flash_pipeline.exchange.simulation.orders import (
    BLOCK_STEPS,
    LONGEST_STEPS,
    Orders,
    Surroundings,
    draw_orders,
)
from flash_pipeline.exchange.simulation.price_path import STEP_MS, PricePath

_KEPT_BLOCKS = 6  # by band: 1 MB each for the nearest
_KEPT_SURROUNDINGS = 4
_DAY_S = 86_400
_GRID = (1, 2, 5)


@dataclass(frozen=True)
class Depth:
    """What rests at consecutive prices of one side, at several steps of time."""

    first: int
    """Price of the first column, in price steps; each further one is a step higher."""
    orders: npt.NDArray[np.int32]
    """Orders resting, [times, prices]."""


class OrderFlow:
    """The book of one instrument, a pure function of seed, symbol and time.

    Its price step is a round number of ticks, about the standard deviation of the price over a
    second: the model has orders at every step near the price, so a finer one would be emptied by
    each move.

    Parameters
    ----------
    asset : Asset
        Whose price it follows, to the step.
    seed : int
        Seed of the market.
    lean : Lean
        How the flow foretells the price.
    """

    def __init__(self, asset: Asset, seed: int, lean: Lean | None = None) -> None:
        self.instrument: Instrument = asset.spec.instrument
        self.lean = Lean() if lean is None else lean
        self._seed = seed
        tick = float(self.instrument.tick_size)
        self.ticks_per_step = _round_steps(asset, tick)
        """Ticks of a price step."""
        self.lots_per_order = _lots(asset)
        """Quantity steps of an order: as many market orders as the model has trade the asset's
        typical turnover."""
        self._path = PricePath(asset, seed)
        self._signal = Signal(seed, asset.symbol, self._path, self.lean)
        self._price_step = tick * self.ticks_per_step
        self._around = lru_cache(maxsize=_KEPT_SURROUNDINGS)(self._make_surroundings)
        self._orders = lru_cache(maxsize=_KEPT_BLOCKS)(self._make_orders)

    def reference(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return the highest price step at which a bid can rest, for steps of time."""
        log_price, _ = self._path.between(first, last)
        return np.maximum(np.floor(np.exp(log_price) / self._price_step).astype(np.int64), 1)

    def depth(self, steps: range, levels: int) -> Iterator[tuple[range, Depth, Depth]]:
        """Yield the bids and the asks of consecutive parts of a range of time steps.

        Parameters
        ----------
        steps : range
            Steps since the epoch, ascending; a part lies within one block.
        levels : int
            Levels of each side that are wanted: the nearest ones are complete, those further away
            need not be.
        """
        place = 0
        while place < len(steps):
            block = steps[place] // BLOCK_STEPS
            within = -(-((block + 1) * BLOCK_STEPS - steps[place]) // steps.step)
            part = steps[place : place + within]
            yield part, *self._part(block, part, levels)
            place += len(part)

    def _part(self, block: int, part: range, levels: int) -> tuple[Depth, Depth]:
        reference = self.reference(part[0] - LONGEST_STEPS, part[-1] + 1)
        swing = int(reference.max() - reference.min())
        current = reference[LONGEST_STEPS :: part.step]
        for bands in range(1, len(BANDS) + 1):
            sides = self._count(block, part, bands)
            reach = BANDS[bands - 1][1] - swing
            if bands == len(BANDS) or _complete(*sides, current, reach, levels):
                break
        return sides

    def _count(self, block: int, part: range, bands: int) -> tuple[Depth, Depth]:
        """Return what rests of the orders of the nearest bands."""
        parts = [
            (self._orders(number, band), number * BLOCK_STEPS - part[0])
            for number in (block - 1, block)
            for band in range(bands)
        ]
        return (
            _resting([(orders[0], offset) for orders, offset in parts], part),
            _resting([(orders[1], offset) for orders, offset in parts], part),
        )

    def _make_surroundings(self, block: int) -> Surroundings:
        first, last = block * BLOCK_STEPS, (block + 1) * BLOCK_STEPS + LONGEST_STEPS + 1
        return Surroundings(self.reference(first, last), *self._signal.between(first, last))

    def _make_orders(self, block: int, band: int) -> tuple[Orders, Orders]:
        around = self._around(block)
        return draw_orders(self._seed, self.instrument.symbol, block, band, around, self.lean)


def _resting(parts: Sequence[tuple[Orders, int]], times: range) -> Depth:
    """Count the orders that rest at each time and price.

    Parameters
    ----------
    parts : sequence of (Orders, int)
        Orders, and the first step of their block less the first of `times`.
    times : range
        Steps at which they are looked at.
    """
    last, stride = len(times) - 1, times.step
    seen = []
    for orders, offset in parts:
        born = np.maximum(-(-(orders.born + offset) // stride), 0)
        gone = -(-(orders.gone + offset) // stride)
        kept = (born <= last) & (gone > born)
        seen.append((orders.price[kept], born[kept], np.minimum(gone[kept], last + 1)))
    price, born, gone = (np.concatenate(columns) for columns in zip(*seen, strict=True))
    if not len(price):
        return Depth(0, np.zeros((len(times), 1), np.int32))
    first = int(price.min())
    width = int(price.max()) - first + 1
    cells = (len(times) + 1) * width
    column = price.astype(np.int64) - first
    change = np.bincount(born * np.int64(width) + column, minlength=cells) - np.bincount(
        gone * np.int64(width) + column, minlength=cells
    )
    counts = change.reshape(-1, width)[:-1].astype(np.int32)
    return Depth(first, np.cumsum(counts, axis=0, dtype=np.int32))


def _complete(
    bids: Depth, asks: Depth, reference: npt.NDArray[np.int64], reach: int, levels: int
) -> bool:
    """Say whether the levels wanted all lie where no order of a further band can be."""
    for depth, bound, sign in ((bids, reference - reach, -1), (asks, reference + reach, 1)):
        columns = (bound - depth.first).clip(0, depth.orders.shape[1] - 1)
        live = np.cumsum(depth.orders > 0, axis=1, dtype=np.int32)
        upto = np.take_along_axis(live, columns[:, None], axis=1)[:, 0]
        within = upto if sign > 0 else live[:, -1] - upto
        if reach <= 0 or (within < levels).any():
            return False
    return True


def _round_steps(asset: Asset, tick: float) -> int:
    """Return 1, 2, 5, 10, ... ticks: the nearest to the price's typical move in a second."""
    move = asset.spec.anchor * float(np.sqrt(asset.hourly_variance / 3600)) / tick
    choices = [n * 10**power for power in range(7) for n in _GRID]
    return int(min(choices, key=lambda n: abs(float(np.log(n / move)))))


def _lots(asset: Asset) -> int:
    notional = asset.spec.daily_turnover / (2 * MARKET_RATE * _DAY_S)
    lot = asset.spec.anchor * float(asset.spec.instrument.quantity_step)
    return max(1, round(notional / lot))


def step_at(time_ms: int) -> int:
    """Return the number of the step that an instant (ms since the epoch) lies in."""
    return time_ms // STEP_MS
