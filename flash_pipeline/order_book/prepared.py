"""Windows of stored books with their split, where everything fitted is of the training range.

    series ──► bounds of the days ──► scales, thresholds ──► windows ──► split, purged
                                      (before the first bound)

Shape letters: N windows, H horizons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.order_book.dataset import BookWindowConfig, BookWindows
from flash_pipeline.order_book.features import BookScale, fit_scales, price_step
from flash_pipeline.order_book.labels import balanced_thresholds, forward_moves
from flash_pipeline.order_book.snapshots import BookSeries
from flash_pipeline.windows.split import Split, SplitConfig


@dataclass(frozen=True)
class PreparedBook:
    """Windows of all symbols, divided by time."""

    windows: BookWindows
    """What batches are cut from."""
    split: Split
    """Positions of the windows of each range."""
    scales: Mapping[str, BookScale]
    """Of the inputs, by symbol, of the training range."""
    price_step: float
    """Least difference of two prices, in the unit of the relative price."""
    bounds: tuple[int, int]
    """Instants at which the validation and the test range begin, ms since the epoch."""

    @property
    def config(self) -> BookWindowConfig:
        """How windows are cut and labelled, thresholds included."""
        return self.windows.config

    @property
    def test_days(self) -> str:
        """The held-out range, for people."""
        time_N = self.windows.time_N[self.split.test_N]
        return f"{iso_utc(int(time_N[0]))} to {iso_utc(int(time_N[-1]))}"


def prepare_book(
    series: Sequence[BookSeries],
    config: BookWindowConfig,
    shares: SplitConfig,
    *,
    flat: float = 1 / 3,
    device: torch.device | None = None,
) -> PreparedBook:
    """Return the windows of some books, scaled, labelled and divided by time.

    The ranges follow one another: training, validation, test. Their bounds are midnights (UTC)
    where each range can have a day or more, else the instants of the shares. Scales and the
    thresholds that make a move flat are learnt from the snapshots before the first bound; a label
    that ends beyond it does not count there.

    Parameters
    ----------
    series : sequence of BookSeries
        One for each symbol.
    config : BookWindowConfig
        Its thresholds are replaced.
    shares : SplitConfig
        Shares of the time for training and validation, and snapshots of the embargo.
    flat : float
        Share of the training moves that are flat, as nearly as the ticks allow.

    Raises
    ------
    NotEnoughHistory
        If a range would be empty, or a symbol has no snapshot of the training range.
    DataError
        As for `BookWindows`.
    """
    validation, test = split_bounds(series, shares)
    scales = fit_scales(series, validation)
    moves = [
        forward_moves(each.between(0, validation), config.horizons, config.cadence_ms)
        for each in series
    ]
    move_TH = np.concatenate(moves)
    if np.isnan(move_TH).all(axis=0).any():
        raise NotEnoughHistory(
            f"no move over {config.horizons[-1]} snapshots is known before {iso_utc(validation)}: "
            f"{len(move_TH)} snapshots, all runs are shorter"
        )
    labelled = replace(config, threshold_bp=balanced_thresholds(move_TH, flat))
    windows = BookWindows(series, scales, labelled, device)
    split = windows.split_at(validation, test, embargo=shares.embargo)
    return PreparedBook(windows, split, scales, price_step(series, scales), (validation, test))


def split_bounds(series: Sequence[BookSeries], shares: SplitConfig) -> tuple[int, int]:
    """Return the instants at which validation and test begin: midnights, where days are enough.

    By the snapshots' own count, so that a collector's pauses do not empty a range.

    Raises
    ------
    NotEnoughHistory
        If there are fewer than three snapshots.
    """
    time_T = np.sort(np.concatenate([each.time_T for each in series]))
    if len(time_T) < 3:
        names = ", ".join(each.symbol for each in series) or "no symbol"
        raise NotEnoughHistory(f"{len(time_T)} snapshots of {names}: expected three ranges' worth")
    exact = [
        int(time_T[int(share * len(time_T))])
        for share in (shares.train, shares.train + shares.validation)
    ]
    days = np.unique(time_T // _DAY_MS)[1:] * _DAY_MS
    if len(days) >= 2:
        test = int(days[np.abs(days[1:] - exact[1]).argmin() + 1])
        earlier = days[days < test]
        return int(earlier[np.abs(earlier - exact[0]).argmin()]), test
    return exact[0], exact[1]


_DAY_MS = 86_400_000
