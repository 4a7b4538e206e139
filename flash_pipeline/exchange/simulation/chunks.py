"""Time cut into chunks, each with random streams of its own.

Every random number belongs to a chunk that counts from a fixed origin, and is drawn from a stream
named by the seed, the owner, the purpose and the chunk. What was served once can therefore never
change: not by another order of requests, not by a later horizon, not by a restart.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar
from zlib import crc32

import numpy as np
import numpy.typing as npt

from flash_pipeline.market.interval import MINUTE_MS

ORIGIN_MS = 1_577_836_800_000
"""2020-01-01T00:00Z, where every simulated series begins."""

HOUR_MS = 60 * MINUTE_MS
CHUNK_HOURS = 720
"""Hours of a chunk: 30 days, a multiple of every candle interval, so no candle spans two."""
CHUNK_MS = CHUNK_HOURS * HOUR_MS

Floats = npt.NDArray[np.float64]
State = TypeVar("State")
Item = TypeVar("Item")


def chunk_at(time_ms: int) -> int:
    """Return the number of the chunk that contains an instant (ms, not before the origin)."""
    return (time_ms - ORIGIN_MS) // CHUNK_MS


def chunk_start(chunk: int) -> int:
    """Return the first instant of a chunk, ms since the epoch."""
    return ORIGIN_MS + chunk * CHUNK_MS


def random_stream(seed: int, owner: str, purpose: str, index: int) -> np.random.Generator:
    """Return the generator of that name: the same one, from its start, on every call."""
    return np.random.default_rng((seed, crc32(owner.encode()), crc32(purpose.encode()), index))


def autoregress(innovations: Floats, coefficient: float, previous: float) -> Floats:
    """Return x[t] = coefficient * x[t-1] + innovations[t], where `previous` is x[-1].

    Parameters
    ----------
    innovations : array [steps]
    coefficient : float
        In (0, 1]; `coefficient ** steps` must not underflow.
    previous : float
        The value before the first step.

    Examples
    --------
    >>> autoregress(np.array([1.0, 0.0, 0.0]), 0.5, 4.0)
    array([3.  , 1.5 , 0.75])
    """
    powers = coefficient ** np.arange(1, len(innovations) + 1)
    return np.asarray(powers * (previous + np.cumsum(innovations / powers)))


class Chain(Generic[State, Item]):
    """A series computed chunk after chunk, each from the state that the one before left.

    States are kept, so that a chunk that was forgotten is computed again alone.

    Parameters
    ----------
    first_chunk : int
        Where it begins.
    initial : State
        What the first chunk starts from.
    step : callable
        Maps a chunk's number and the state to the chunk's item and the next state.
    kept : int or None
        Items remembered, those asked for last; None for all of them.
    """

    def __init__(
        self,
        first_chunk: int,
        initial: State,
        step: Callable[[int, State], tuple[Item, State]],
        kept: int | None = None,
    ) -> None:
        self._first = first_chunk
        self._states = [initial]
        self._step = step
        self._kept = kept
        self._items: OrderedDict[int, Item] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, chunk: int) -> Item:
        index = chunk - self._first
        assert index >= 0, f"chunk {chunk} lies before the first, {self._first}"
        with self._lock:
            while len(self._states) <= index:
                self._compute(len(self._states) - 1)
            if index not in self._items:
                self._compute(index)
            self._items.move_to_end(index)
            return self._items[index]

    def _compute(self, index: int) -> None:
        item, state = self._step(self._first + index, self._states[index])
        if index + 1 == len(self._states):
            self._states.append(state)
        self._items[index] = item
        if self._kept is not None and len(self._items) > self._kept:
            self._items.popitem(last=False)
