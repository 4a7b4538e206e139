"""Windows to evaluate on: those that a run stored, or cut from recorded candles.

Recorded candles are files `{SYMBOL}_60.parquet` in one folder, with the columns `start_time` (ms),
`close` and `volume`. Their features are computed here with numpy, to the catalog's formulas, so
that a machine without DuckDB can cut windows too.

Shape letters: T bars, S symbols.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.training.recipes import DEFAULT_SYMBOLS
from flash_pipeline.windows import Panel, WindowFrame, read_windows, write_windows

VARIABLE = "FLASH_PIPELINE_REAL_DATA"
"""Names the folder of recorded candles."""

Floats = npt.NDArray[np.float64]


def chosen_windows(data: Path | None, lookback: int, horizon: int) -> tuple[WindowFrame, str]:
    """Return windows and where they come from, in words.

    Recorded candles are taken where a folder is given, here or by `FLASH_PIPELINE_REAL_DATA`; the
    windows stored under the configured home otherwise, with their own lookback and horizon.

    Raises
    ------
    NotEnoughHistory
        If there are neither.
    """
    folder = data or os.environ.get(VARIABLE)
    if folder:
        frame = recorded_windows(Path(folder), lookback, horizon)
        return frame, "recorded candles"
    stored = Settings.from_environment().windows
    try:
        frame = read_windows(stored)
    except NotEnoughHistory as error:
        raise NotEnoughHistory(
            f"{error}; or give a folder of recorded candles by --data or {VARIABLE}"
        ) from error
    return frame, f"stored windows ({'simulated' if frame.synthetic else 'real'} candles)"


def recorded_windows(folder: Path, lookback: int, horizon: int) -> WindowFrame:
    """Cut windows from the recorded hourly candles of a folder.

    Raises
    ------
    NotEnoughHistory
        If it holds no candles of the default symbols, or too few of them.
    """
    files = {symbol: folder / f"{symbol}_60.parquet" for symbol in DEFAULT_SYMBOLS}
    present = {symbol: path for symbol, path in files.items() if path.is_file()}
    if not present:
        raise NotEnoughHistory(f"{folder} holds no file such as {DEFAULT_SYMBOLS[0]}_60.parquet")
    panel = recorded_panel(present)
    with tempfile.TemporaryDirectory() as scratch:
        return write_windows(
            panel,
            Path(scratch) / "windows",
            lookback=lookback,
            horizon=horizon,
            stride=lookback,
            synthetic=False,
        )


def recorded_panel(files: dict[str, Path]) -> Panel:
    """Return the features of candle files, aligned by time, without their warm-up."""
    interval = Interval.HOUR_1
    columns = ["start_time", "close", "volume"]
    tables = [pq.read_table(path, columns=columns, partitioning=None) for path in files.values()]
    starts = [table["start_time"].to_numpy() for table in tables]
    first = min(int(start[0]) for start in starts)
    bars = (max(int(start[-1]) for start in starts) - first) // interval.milliseconds + 1
    close_TS, volume_TS = np.full((2, bars, len(files)), np.nan)
    for s, (table, start) in enumerate(zip(tables, starts, strict=True)):
        row = (start - first) // interval.milliseconds
        close_TS[row, s] = table["close"].to_numpy()
        volume_TS[row, s] = table["volume"].to_numpy()
    x_TSF = catalog_features(close_TS, volume_TS)
    head = int(np.isfinite(x_TSF).all(axis=2).any(axis=1).argmax())
    start_T = first + np.arange(head, bars, dtype=np.int64) * interval.milliseconds
    x_TSF = np.ascontiguousarray(x_TSF[head:], dtype=np.float32)
    return Panel(tuple(files), FEATURE_NAMES, interval, start_T, x_TSF, close_TS[head:])


def catalog_features(close_TS: Floats, volume_TS: Floats) -> Floats:
    """Return the five features of the catalog [T, S, F]; NaN in their warm-up and after a gap."""
    change_TS, return_TS = np.full((2, *close_TS.shape), np.nan)
    change_TS[1:] = close_TS[1:] - close_TS[:-1]
    return_TS[1:] = np.log(close_TS[1:] / close_TS[:-1])
    gains_TS, losses_TS = (_mean(np.maximum(sign * change_TS, 0), 14) for sign in (1, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        moved_TS = gains_TS + losses_TS
        features = [
            return_TS,
            np.sqrt(_mean_square(return_TS, 24) * 24 / 23),
            volume_TS / _mean(volume_TS, 24),
            close_TS / _mean(close_TS, 24),
            np.where(moved_TS == 0, 50.0, 100 * gains_TS / moved_TS),
        ]
    features[2] = np.where(np.isfinite(features[2]), features[2], np.nan)  # no volume at all
    return np.stack(features, axis=-1)


def _mean(values_TS: Floats, bars: int) -> Floats:
    """Return the mean of the last `bars` values; NaN where fewer are known."""
    views_TSB = np.lib.stride_tricks.sliding_window_view(values_TS, bars, axis=0)
    mean_TS = np.full_like(values_TS, np.nan)
    mean_TS[bars - 1 :] = views_TSB.mean(axis=-1)
    return mean_TS


def _mean_square(values_TS: Floats, bars: int) -> Floats:
    """Return the mean squared distance of the last `bars` values from their mean."""
    views_TSB = np.lib.stride_tricks.sliding_window_view(values_TS, bars, axis=0)
    square_TS = np.full_like(values_TS, np.nan)
    square_TS[bars - 1 :] = views_TSB.var(axis=-1)
    return square_TS
