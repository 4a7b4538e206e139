"""Where training steps take their batches from: windows of candles, or of a grid of tokens.

Shape letters: N windows of a batch, K moments of the series, T moments of a window, F inputs of a
token; "cells" are the axes of one moment: [L, S] of an order book, [A] of a portfolio.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidInput

Batch = tuple[Tensor, Tensor | None, Tensor]
"""Inputs, mask and targets."""


class BatchSource(Protocol):
    """What a step, a pass and a training ask of their data; `WindowBatches` is one."""

    @property
    def home(self) -> torch.device:
        """Where the index of a batch belongs."""

    @property
    def device(self) -> torch.device:
        """Where batches are made."""

    @property
    def resident(self) -> bool:
        """Whether the data lie where batches are made: a captured step can cut them itself."""

    @property
    def lookback(self) -> int:
        """Bars of a window."""

    @property
    def has_gaps(self) -> bool:
        """Whether batches come with a mask."""

    def labels(self, index_N: Tensor) -> Tensor:
        """Return the targets of the last bar of windows, on `device`."""

    def batches(self, parts: Iterable[Tensor], *, dense: bool = False) -> Iterator[Batch]:
        """Yield the batch of each index; targets of every bar where dense."""


class Cut(Protocol):
    """Whoever cuts windows itself."""

    def __call__(self, index_N: Tensor, /, *, dense: bool = False) -> Batch:
        """Return inputs, mask and targets."""


class GridBatches:
    """Cuts windows out of a series of moments, such as snapshots of a book or hours of a market.

    The series lies in memory once, on the device that batches are made on. Windows are named by
    their last moment, so that the caller decides which ones may be cut: none that would span a
    break between two days, two symbols or two ranges of a split.

    Parameters
    ----------
    x : Tensor
        [K, *cells, F] float32. What is absent may hold anything.
    valid : Tensor of bool or None
        [K, *cells]: False where a token is absent. None where none is, so that attention takes its
        fastest path and a step can be captured.
    targets : Tensor
        [K, ...]: of each moment, NaN (floats) or below 0 (integers) where unknown. Integers become
        floats.
    end_W : Tensor
        int64: position of the last moment of each window, at least `lookback` - 1. A training's
        index is a position in this.
    lookback : int
        Moments of a window, at least 1.
    device : torch.device
        Where to.

    Raises
    ------
    InvalidInput
        If the lengths do not fit, a window would begin before the series, or an input that is
        there is not finite: the message names the first such moment.
    """

    resident = True

    def __init__(
        self,
        x: Tensor,
        valid: Tensor | None,
        targets: Tensor,
        end_W: Tensor,
        lookback: int,
        device: torch.device,
    ) -> None:
        _check(x, valid, targets, end_W, lookback)
        if valid is not None and bool(valid.all()):
            valid = None
        self._x, self._targets = x.to(device), _as_floats(targets).to(device)
        self._valid = None if valid is None else valid.to(device)
        self._end_W = end_W.to(device)
        self._back_T = torch.arange(1 - lookback, 1, device=device)

    @property
    def home(self) -> torch.device:
        """Where the index of a batch belongs."""
        return self._x.device

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return self._x.device

    @property
    def lookback(self) -> int:
        """Moments of a window."""
        return len(self._back_T)

    @property
    def has_gaps(self) -> bool:
        """Whether some token is absent, so that batches come with a mask."""
        return self._valid is not None

    def __len__(self) -> int:
        return len(self._end_W)

    def labels(self, index_N: Tensor) -> Tensor:
        """Return the targets [N, ...] of the last moment of windows."""
        return self._targets[self._end_W[index_N]]

    def batch(self, index_N: Tensor, *, dense: bool = False) -> Batch:
        """Return the windows at positions in `end_W`.

        Returns
        -------
        x : Tensor
            [N, T, *cells, F].
        valid : Tensor of bool or None
            [N, T, *cells].
        targets : Tensor
            [N, ...] of the last moment, or [N, T, ...] of every one where dense.
        """
        end_N = self._end_W[index_N]
        place_NT = end_N[:, None] + self._back_T
        valid = None if self._valid is None else self._valid[place_NT]
        return self._x[place_NT], valid, self._targets[place_NT if dense else end_N]

    def batches(self, parts: Iterable[Tensor], *, dense: bool = False) -> Iterator[Batch]:
        """Yield the batch of each index."""
        for part in parts:
            yield self.batch(part, dense=dense)


class CutBatches:
    """Batches of whoever cuts windows itself, such as those of an order book.

    Parameters
    ----------
    cut : callable
        From positions of windows [N], and the keyword `dense`, to their inputs, mask (None where
        nothing is absent in any window) and targets, of the last moment, or of every one where
        dense: floats, NaN where unknown, or integers, below 0 where unknown.
    device : torch.device
        Where it cuts them, and from what.
    lookback : int
        Moments of a window.
    targets : callable
        From positions of windows to the targets of their last moments alone: those of all windows
        are asked for at once, whose inputs may be many times the memory.
    has_gaps : bool
        Whether a mask comes with them.
    """

    resident = True

    def __init__(
        self,
        cut: Cut,
        device: torch.device,
        lookback: int,
        *,
        targets: Callable[[Tensor], Tensor],
        has_gaps: bool,
    ) -> None:
        self._cut, self._targets = cut, targets
        self.home = self.device = device
        self.lookback, self.has_gaps = lookback, has_gaps

    def labels(self, index_N: Tensor) -> Tensor:
        """Return the targets of windows."""
        return _as_floats(self._targets(index_N))

    def batch(self, index_N: Tensor, *, dense: bool = False) -> Batch:
        """Return the windows at positions."""
        x, valid, targets = self._cut(index_N, dense=dense)
        return x, valid, _as_floats(targets)

    def batches(self, parts: Iterable[Tensor], *, dense: bool = False) -> Iterator[Batch]:
        """Yield the batch of each index."""
        for part in parts:
            yield self.batch(part, dense=dense)


def _as_floats(targets: Tensor) -> Tensor:
    """Return targets as floats, NaN where an integer is below 0."""
    if targets.is_floating_point():
        return targets
    return targets.to(torch.float32).masked_fill(targets < 0, torch.nan)


def _check(x: Tensor, valid: Tensor | None, targets: Tensor, end_W: Tensor, lookback: int) -> None:
    if len(targets) != len(x) or (valid is not None and valid.shape != x.shape[:-1]):
        raise InvalidInput(
            f"inputs have the shape {tuple(x.shape)}, valid "
            f"{None if valid is None else tuple(valid.shape)}, targets {tuple(targets.shape)}: "
            "expected as many moments of each, and valid of the inputs' cells"
        )
    if not 1 <= lookback <= len(x):
        raise InvalidInput(f"lookback is {lookback} of {len(x)} moments: expected 1 to all of them")
    if len(end_W) == 0 or end_W.min() < lookback - 1 or end_W.max() >= len(x):
        raise InvalidInput(
            f"windows end at {[int(end_W.min()), int(end_W.max())] if len(end_W) else 'nothing'}: "
            f"expected moments from {lookback - 1} to {len(x) - 1}"
        )
    wrong = ~x.isfinite().all(-1)
    if valid is not None:
        wrong = wrong & valid
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise InvalidInput(
            f"the input at {place} (moment, cell) is {x[tuple(place)].tolist()}: expected finite "
            "numbers, or False in valid"
        )
