"""The torch side: windows of snapshots cut out of one array, with labels and a purged split.

Shape letters: B windows of a batch, N windows, T snapshots (`history_length` of a window), L
levels, S sides (bid, ask), F features (`features.FEATURES`), H horizons.

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

from flash_pipeline.errors import DataError, InvalidConfig, NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.order_book.features import BookScale, book_features, level_valid
from flash_pipeline.order_book.labels import (
    LATE,
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
    """float32: relative price, log size, age, move of the mid price; see `book_features`."""
    valid_BTLS: Tensor | None
    """bool: the level exists; None where all do, so that attention takes its fastest path."""
    label_BH: Tensor
    """int64: 0 down, 1 flat, 2 up, -1 unknown; of the last snapshot, or [B, T, H] of every one."""


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
        If a series has fewer levels than a window, or its snapshots come faster than the cadence.
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
        for each in series:
            _require_cadence(each, config.cadence_ms)
        self.config = config
        self.symbols = tuple(each.symbol for each in series)
        """Symbols, in the order of `symbol_N`."""
        self.end_N, self.symbol_N = _window_ends(series, config)
        """Last snapshot of each window, as a position among all; which symbol's it is, [N]."""
        if not len(self.end_N):
            raise NotEnoughHistory(_too_short(series, config))
        time_T = np.concatenate([each.time_T for each in series])
        moves = [forward_moves(each, config.horizons, config.cadence_ms) for each in series]
        move_TH = np.concatenate(moves)
        self.time_N: npt.NDArray[np.int64] = time_T[self.end_N]
        """When each window ends, ms since the epoch: what a prediction is made at, [N]."""
        self.move_NH: npt.NDArray[np.float64] = move_TH[self.end_N]
        """Move of the mid price over each horizon, basis points; NaN unknown, [N, H]."""
        self.label_NH = classify(self.move_NH, config.threshold_bp)
        """Classes of the moves, [N, H]."""
        self.label_end_N: npt.NDArray[np.int64] = np.concatenate(
            [_label_ends(each, config) for each in series]
        )[self.end_N]
        """When the last known label of any of a window's snapshots ends, ms, [N]."""
        order = np.argsort(self.time_N, kind="stable")
        for name in ("end_N", "symbol_N", "time_N", "move_NH", "label_NH", "label_end_N"):
            setattr(self, name, getattr(self, name)[order])
        device = torch.device("cpu") if device is None else device
        features = [book_features(each, scales[each.symbol], config.cadence_ms) for each in series]
        self._book = torch.from_numpy(np.concatenate(features)).to(device)
        valid = np.concatenate([level_valid(each) for each in series])
        self._valid = None if valid.all() else torch.from_numpy(valid).to(device)
        self._label = torch.from_numpy(classify(move_TH, config.threshold_bp)).to(device)
        self._end = torch.from_numpy(self.end_N).to(device)
        self._start = self._end - config.history_length + 1

    def __len__(self) -> int:
        return len(self.end_N)

    @property
    def device(self) -> torch.device:
        """Where snapshots stay and batches are made."""
        return self._book.device

    @property
    def has_gaps(self) -> bool:
        """Whether some level is missing somewhere, so that batches come with a mask."""
        return self._valid is not None

    def snapshots(self, position_N: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Return the last snapshots [N, L, S, F] of windows, and which levels exist [N, L, S]."""
        end_N = torch.from_numpy(self.end_N[position_N]).to(self.device)
        return self._book[end_N], None if self._valid is None else self._valid[end_N]

    def batch(self, index_B: Tensor, *, dense: bool = False) -> BookBatch:
        """Return the windows at some positions, oldest first in `time_N`.

        Look-ahead: `split_at` purges by the last known label of any snapshot of a window.

        Parameters
        ----------
        index_B : torch.Tensor
            int64, on the device of the snapshots.
        dense : bool
            Whether every snapshot's label is given, in place of the last one's.
        """
        start_B = self._start[index_B]
        return BookBatch(
            self._cut(self._book, start_B),
            None if self._valid is None else self._cut(self._valid, start_B),
            self._cut(self._label, start_B) if dense else self.labels(index_B),
        )

    def labels(self, index_B: Tensor) -> Tensor:
        """Return label_BH of the windows at some positions, as `batch` does, and cut none."""
        return self._label[self._end[index_B]]

    def window(self, position: int) -> Tensor:
        """Return the features of one window, [T, L, S, F]: a view, no copy."""
        return self._windows(self._book)[int(self._start[position])]

    def split(self, config: SplitConfig) -> Split:
        """Divide the windows into training, validation and test ranges, oldest first.

        Windows whose last label ends after the next range's first window does are purged, and
        those of `config.embargo` snapshots more; so are windows without any known label. (López
        de Prado 2018, Advances in Financial Machine Learning, section 7.4.1.)

        Raises
        ------
        NotEnoughHistory
            If a range would be empty.
        """
        known = self._known()
        if not len(known):
            raise self._empty("training", known)
        shares = np.array([config.train, config.train + config.validation])
        times = self.time_N[known]
        validation, test = times[(shares * len(known)).astype(int)]  # all symbols share them
        return self.split_at(int(validation), int(test), embargo=config.embargo)

    def split_at(self, validation: int, test: int, *, embargo: int = 0) -> Split:
        """Divide the windows at two instants, ms since the epoch, such as midnights.

        A window belongs to the range that it ends in. One whose last label ends after the next
        range's beginning less `embargo` snapshots is purged, and one without any known label.

        Raises
        ------
        NotEnoughHistory
            If a range would be empty.
        """
        known = self._known()
        bounds = np.searchsorted(self.time_N[known], [validation, test])
        parts = np.split(known, bounds)
        kept_back = embargo * self.config.cadence_ms
        for i, limit in enumerate((validation, test)):
            parts[i] = parts[i][self.label_end_N[parts[i]] + kept_back <= limit]
        for name, part in zip(("training", "validation", "test"), parts, strict=True):
            if not len(part):
                raise self._empty(name, known)
        return Split(*parts)

    def _known(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero((self.label_NH != UNKNOWN).any(axis=1))

    def _empty(self, name: str, known: npt.NDArray[np.int64]) -> NotEnoughHistory:
        return NotEnoughHistory(
            f"the {name} range is empty: {len(known)} labelled windows of "
            f"{self.config.history_length} snapshots from {iso_utc(int(self.time_N[0]))} "
            f"to {iso_utc(int(self.time_N[-1]))}"
        )

    def _cut(self, x: Tensor, start_B: Tensor) -> Tensor:
        return self._windows(x).index_select(0, start_B)

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


def _label_ends(series: BookSeries, config: BookWindowConfig) -> npt.NDArray[np.int64]:
    """Return when the last known label ends of each snapshot and of those before it, ms, [T].

    By the snapshots' own times: where they come late, so does the label's end. Before a gap the
    longest labels of the last snapshots are unknown, and those of earlier ones end later.
    """
    starts = segment_starts(series.time_T, config.cadence_ms)
    end_T = series.time_T.copy()
    for horizon in config.horizons:
        if horizon < len(series):
            unbroken = starts[horizon:] == starts[:-horizon]
            end_T[:-horizon] = np.where(unbroken, series.time_T[horizon:], end_T[:-horizon])
    return np.maximum.accumulate(end_T)


def _require_cadence(series: BookSeries, cadence_ms: int) -> None:
    """Refuse snapshots that come faster: a horizon of so many of them would be a shorter time."""
    if len(series) < 2:
        return
    usual = float(np.median(np.diff(series.time_T)))
    if usual < cadence_ms / LATE:
        raise DataError(
            f"{series.symbol} has a snapshot every {usual:.0f} ms, cadence_ms={cadence_ms}: "
            "expected the cadence that they were taken at"
        )


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
