"""Symbols aligned by time: one array over bars, symbols and features.

Shape letters of this package: N windows, B blocks, T bars of the panel, L bars of a window
(lookback), K bars of a block, S symbols, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.market import Interval, iso_utc


@dataclass(frozen=True)
class Panel:
    """Features and closes of several symbols on one grid of consecutive bars."""

    symbols: tuple[str, ...]
    """Order of the symbol axis."""
    features: tuple[str, ...]
    """Order of the feature axis."""
    interval: Interval
    """Length of a bar."""
    start_time_T: npt.NDArray[np.int64]
    """Open of each bar, ms since the epoch; every step is one interval."""
    x_TSF: npt.NDArray[np.float32]
    """Features, unscaled; NaN where a value is null or a candle is absent."""
    close_TS: npt.NDArray[np.float64]
    """Close prices; NaN where a candle is absent."""

    @property
    def valid_TS(self) -> npt.NDArray[np.bool_]:
        """Where every feature of a symbol's bar is known."""
        return np.asarray(np.isfinite(self.x_TSF).all(axis=2))

    def forward_log_return(self, horizon: int) -> npt.NDArray[np.float64]:
        """Return the label of every bar: ln(close[t + horizon] / close[t]).

        Parameters
        ----------
        horizon : int
            Bars ahead, at least 1. The label of bar t is known once bar t + horizon has closed.

        Returns
        -------
        array [T, S]
            NaN where either close is absent, as for the last `horizon` bars.
        """
        y_TS = np.full_like(self.close_TS, np.nan)
        y_TS[:-horizon] = np.log(self.close_TS[horizon:] / self.close_TS[:-horizon])
        return y_TS


def panel_from_features(
    table: pa.Table, symbols: Sequence[str], features: Sequence[str], interval: Interval
) -> Panel:
    """Align the rows of the features' table by time, not by their position.

    Parameters
    ----------
    table : pa.Table
        `symbol, start_time, close` and the features, in any order of rows, unique by symbol and
        start. Rows of other symbols are ignored.

    Returns
    -------
    Panel
        From the first bar at which some symbol is valid (the warm-up before it is left out) to
        the newest bar of any symbol. Bars that a symbol lacks are NaN.

    Raises
    ------
    NotEnoughHistory
        If no symbol has a bar with every feature.
    """
    names = table["symbol"].combine_chunks().dictionary_encode()
    place = {name: i for i, name in enumerate(symbols)}
    code_of = np.array([place.get(n, -1) for n in names.dictionary.to_pylist()], dtype=np.int64)
    column = code_of[names.indices.to_numpy()] if table.num_rows else np.empty(0, np.int64)
    wanted = column >= 0
    if not wanted.any():
        raise NotEnoughHistory(f"no features of {', '.join(symbols)} are stored")
    start = table["start_time"].to_numpy()[wanted]
    first = int(start.min())
    row = (start - first) // interval.milliseconds
    shape = (int(row.max()) + 1, len(symbols))
    place_TS = row * len(symbols) + column[wanted]

    def scatter(name: str, dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
        values = np.full(shape[0] * shape[1], np.nan, dtype)
        values[place_TS] = table[name].to_numpy()[wanted]
        return values.reshape(shape)

    x_TSF = np.stack([scatter(name, np.float32) for name in features], axis=2)
    whole = np.asarray(np.isfinite(x_TSF).all(axis=2)).any(axis=1)
    if not whole.any():
        raise NotEnoughHistory(
            f"{shape[0]} bars from {iso_utc(first)} are too few for the features' warm-up"
        )
    head = int(whole.argmax())
    start_time_T = first + np.arange(head, shape[0], dtype=np.int64) * interval.milliseconds
    return Panel(
        tuple(symbols),
        tuple(features),
        interval,
        start_time_T,
        np.ascontiguousarray(x_TSF[head:], dtype=np.float32),
        scatter("close", np.float64)[head:],
    )
