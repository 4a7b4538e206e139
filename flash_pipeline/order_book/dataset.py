"""The torch side: windows of snapshots cut out of one array, with labels and a purged split.

Shape letters: B windows of a batch, N windows, T snapshots (`history_length` of a window), L
levels, S sides (bid, ask), F features (relative price, log size, age), H horizons.

All series lie one after another in one array. Windows are one view of it, [starts, T, L, S, F],
whose first two strides are equal: nothing but the batch itself is ever copied. A window lies
within one unbroken run of one symbol's snapshots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.order_book.features import BookScale, book_features, level_valid
from flash_pipeline.order_book.labels import (
    UNKNOWN,
    classify,
    forward_moves,
    segment_starts,
)
from flash_pipeline.order_book.snapshots import BookSeries
from flash_pipeline.windows.split import Split, SplitConfig


@dataclass(frozen=True)
class BookWindowConfig:
    """How windows are cut and labelled.

    Raises
    ------
    InvalidConfig
        If a value is out of its range.
    """

    history_length: int = 1000
    """Snapshots of a window, at least 1."""
    levels: int = 50
    """Levels of each side, at least 1; the series must have as many."""
    horizons: tuple[int, ...] = (1, 10, 30)
    """Snapshots ahead that are labelled, ascending, at least 1 each."""
    threshold_bp: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Moves of the mid price up to so many basis points of it are flat; one for each horizon."""
    cadence_ms: int = 1_000
    """Milliseconds between two snapshots: where there are more than 1.5 of it, a run ends."""
    stride: int = 1
    """Snapshots from one window's end to the next one's."""

    def __post_init__(self) -> None:
        for name in ("history_length", "levels", "cadence_ms", "stride"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name}={getattr(self, name)}: expected 1 or more")
        rising = all(a < b for a, b in zip(self.horizons, self.horizons[1:], strict=False))
        if not self.horizons or self.horizons[0] < 1 or not rising:
            raise InvalidConfig(f"horizons {self.horizons}: expected ascending, 1 or more")
        if len(self.threshold_bp) != len(self.horizons) or min(self.threshold_bp) < 0:
            raise InvalidConfig(
                f"thresholds {self.threshold_bp} of {len(self.horizons)} horizons: expected one "
                "each, 0 bp or more"
            )


class BookBatch(NamedTuple):
    """What a step of training is given."""

    book_BTLSF: Tensor
    """float32: relative price, log size, age; see `book_features`."""
    valid_BTLS: Tensor | None
    """bool: the level exists; None where all do, so that attention takes its fastest path."""
    label_BH: Tensor
    """int64: 0 down, 1 flat, 2 up, -1 unknown."""


class BookWindows:
    """Cuts batches of windows out of snapshots, on the device that holds them.

    Parameters
    ----------
    series : sequence of BookSeries
        One for each symbol, of unbroken runs and gaps between them.
    scales : mapping of str to BookScale
        By symbol, learnt from training snapshots alone.
    config : BookWindowConfig
        What to cut.
    device : torch.device or None
        Where snapshots stay and batches are made; by default this machine's memory.

    Raises
    ------
    DataError
        If a series has fewer levels than a window.
    NotEnoughHistory
        If no run is as long as a window.
    """

    def __init__(
        self,
        series: Sequence[BookSeries],
        scales: Mapping[str, BookScale],
        config: BookWindowConfig,
        device: torch.device | None = None,
    ) -> None:
        series = [each.take_levels(config.levels) for each in series]
        self.config = config
        self.symbols = tuple(each.symbol for each in series)
        """Symbols, in the order of `symbol_N`."""
        self.end_N, self.symbol_N = _window_ends(series, config)
        """Last snapshot of each window, as a position among all; which symbol's it is, [N]."""
        if not len(self.end_N):
            raise NotEnoughHistory(_too_short(series, config))
        time_T = np.concatenate([each.time_T for each in series])
        moves = [forward_moves(each, config.horizons, config.cadence_ms) for each in series]
        self.time_N: npt.NDArray[np.int64] = time_T[self.end_N]
        """When each window ends, ms since the epoch: what a prediction is made at, [N]."""
        self.move_NH: npt.NDArray[np.float64] = np.concatenate(moves)[self.end_N]
        """Move of the mid price over each horizon, basis points; NaN unknown, [N, H]."""
        self.label_NH = classify(self.move_NH, config.threshold_bp)
        """Classes of the moves, [N, H]."""
        order = np.argsort(self.time_N, kind="stable")
        for name in ("end_N", "symbol_N", "time_N", "move_NH", "label_NH"):
            setattr(self, name, getattr(self, name)[order])
        device = torch.device("cpu") if device is None else device
        features = [book_features(each, scales[each.symbol]) for each in series]
        self._book = torch.from_numpy(np.concatenate(features)).to(device)
        valid = np.concatenate([level_valid(each) for each in series])
        self._valid = None if valid.all() else torch.from_numpy(valid).to(device)
        self._label = torch.from_numpy(self.label_NH).to(device)
        self._start = torch.from_numpy(self.end_N - config.history_length + 1).to(device)

    def __len__(self) -> int:
        return len(self.end_N)

    def batch(self, index_B: Tensor) -> BookBatch:
        """Return the windows at some positions, oldest first in `time_N`.

        Parameters
        ----------
        index_B : torch.Tensor
            int64, on the device of the snapshots.
        """
        start_B = self._start[index_B]
        return BookBatch(
            self._windows(self._book).index_select(0, start_B),
            None if self._valid is None else self._windows(self._valid).index_select(0, start_B),
            self._label[index_B],
        )

    def window(self, position: int) -> Tensor:
        """Return the features of one window, [T, L, S, F]: a view, no copy."""
        return self._windows(self._book)[int(self._start[position])]

    def split(self, config: SplitConfig) -> Split:
        """Divide the windows into training, validation and test ranges, oldest first.

        Windows whose longest label ends after the next range's first window is over are purged,
        and `config.embargo` snapshots more; so are windows without any known label. (López de
        Prado 2018, Advances in Financial Machine Learning, section 7.4.1.)

        Raises
        ------
        NotEnoughHistory
            If a range would be empty.
        """
        known = np.flatnonzero((self.label_NH != UNKNOWN).any(axis=1))
        shares = np.array([config.train, config.train + config.validation])
        # By time, so that all symbols share the bounds.
        times = self.time_N[known]
        bounds = np.searchsorted(times, times[(shares * len(known)).astype(int)])
        parts = np.split(known, bounds)
        ahead = (self.config.horizons[-1] + config.embargo) * self.config.cadence_ms
        for i in (0, 1):
            if len(parts[i + 1]):
                limit = self.time_N[parts[i + 1][0]]
                parts[i] = parts[i][self.time_N[parts[i]] + ahead <= limit]
        for name, part in zip(("training", "validation", "test"), parts, strict=True):
            if not len(part):
                raise NotEnoughHistory(
                    f"the {name} range is empty: {len(known)} labelled windows of "
                    f"{self.config.history_length} snapshots from {iso_utc(int(self.time_N[0]))} "
                    f"to {iso_utc(int(self.time_N[-1]))}"
                )
        return Split(*parts)

    def _windows(self, x: Tensor) -> Tensor:
        """Return all windows of consecutive rows as one view, those across runs included."""
        history = self.config.history_length
        shape = (len(x) - history + 1, history, *x.shape[1:])
        return x.as_strided(shape, (x.stride(0), *x.stride()))


def _window_ends(
    series: Sequence[BookSeries], config: BookWindowConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return where windows end that lie within one run, and whose they are."""
    ends, owners, offset = [], [], 0
    for i, each in enumerate(series):
        position = np.arange(len(each))
        length = position - segment_starts(each.time_T, config.cadence_ms) + 1
        whole = (length >= config.history_length) & (
            (length - config.history_length) % config.stride == 0
        )
        ends.append(position[whole] + offset)
        owners.append(np.full(int(whole.sum()), i))
        offset += len(each)
    if not ends:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return np.concatenate(ends).astype(np.int64), np.concatenate(owners).astype(np.int64)


def _too_short(series: Sequence[BookSeries], config: BookWindowConfig) -> str:
    longest = 0
    for each in series:
        if len(each):
            runs = np.bincount(segment_starts(each.time_T, config.cadence_ms))
            longest = max(longest, int(runs.max()))
    names = ", ".join(each.symbol for each in series) or "no symbol"
    return (
        f"the longest unbroken run of {names} has {longest} snapshots, a window takes "
        f"{config.history_length}"
    )
