"""Blocks of consecutive bars in Parquet, from which every window is a contiguous slice.

    block 0   |-------------- lookback + stride - 1 bars --------------|
    window 0  |---- lookback ----|
    window 1   |---- lookback ----|
    ...                             (`stride` windows in one block)
    block 1   starts `stride` bars later

With stride = lookback every bar is stored about twice. With stride = 1 a block is a window: the
literal layout of one row per window, which stores every bar `lookback` times.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory, SchemaMismatch
from flash_pipeline.market import Interval
from flash_pipeline.storage.files import replacing_folder
from flash_pipeline.windows.panel import Panel

BLOCKS_FILE = "blocks.parquet"
"""One row per block: `block_id, first_start_time, x, y, valid`."""

INDEX_FILE = "windows.parquet"
"""One row per window: `anchor_start_time, block_id, offset, label_end`."""

_META = b"flash_pipeline"

INDEX_SCHEMA = pa.schema(
    [
        pa.field("anchor_start_time", pa.int64(), nullable=False),
        pa.field("block_id", pa.int32(), nullable=False),
        pa.field("offset", pa.int32(), nullable=False),
        pa.field("label_end", pa.int64(), nullable=False),
    ],
    metadata={
        "anchor_start_time": "open of the window's last bar, ms since the epoch, UTC",
        "block_id, offset": "where the window starts: block, and bar within it",
        "label_end": "close of the last bar that the label uses, ms since the epoch, UTC",
    },
)
"""Columns of the window index."""


@dataclass(frozen=True)
class WindowFrame:
    """The stored windows, as arrays that share memory with the file's buffers.

    Shape letters: B blocks, K bars of a block, S symbols, F features, N windows.
    """

    symbols: tuple[str, ...]
    """Order of the symbol axis."""
    features: tuple[str, ...]
    """Order of the feature axis."""
    interval: Interval
    """Length of a bar."""
    lookback: int
    """Bars of a window."""
    horizon: int
    """Bars from a window's last bar to the end of its label."""
    stride: int
    """Windows in a block."""
    synthetic: bool
    """Whether a simulator made the candles."""
    snapshot: str
    """Hash of everything stored: equal snapshots are equal data."""
    x_BKSF: npt.NDArray[np.float32]
    """Features, unscaled; NaN where unknown."""
    y_BKS: npt.NDArray[np.float32]
    """Forward log return over the horizon; NaN where not known yet."""
    valid_BKS: npt.NDArray[np.bool_]
    """Where every feature is known."""
    anchor_N: npt.NDArray[np.int64]
    """Open of each window's last bar, ms since the epoch, ascending."""
    block_N: npt.NDArray[np.int32]
    """Block of each window."""
    offset_N: npt.NDArray[np.int32]
    """Bar of the block at which each window starts."""
    label_end_N: npt.NDArray[np.int64]
    """Close of the last bar that each label uses, ms since the epoch."""

    @property
    def label_NS(self) -> npt.NDArray[np.float32]:
        """Label of each window and symbol; NaN where not known yet."""
        return self.y_BKS[self.block_N, self.offset_N + self.lookback - 1]

    @property
    def known_N(self) -> npt.NDArray[np.bool_]:
        """Windows of which at least one symbol's label is known."""
        return np.asarray(np.isfinite(self.label_NS).any(axis=1))

    @property
    def made_at_N(self) -> npt.NDArray[np.int64]:
        """Close of each window's last bar, when its prediction can be made, ms since the epoch."""
        return self.anchor_N + self.interval.milliseconds

    @property
    def start_time_T(self) -> npt.NDArray[np.int64]:
        """Open of each bar of the panel, ms since the epoch."""
        first = int(self.anchor_N[0]) - (self.lookback - 1) * self.interval.milliseconds
        bars = len(self.anchor_N) + self.lookback - 1
        return first + np.arange(bars, dtype=np.int64) * self.interval.milliseconds

    def along_time(self, blocks_BK: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Lay one of the block arrays out along the panel's bars, each bar once.

        Parameters
        ----------
        blocks_BK : array [B, K, ...]
            `x_BKSF`, `y_BKS` or `valid_BKS`.

        Returns
        -------
        array [T, ...]
            Rows in the order of `start_time_T`.
        """
        heads = blocks_BK[:-1, : self.stride].reshape(-1, *blocks_BK.shape[2:])
        return np.concatenate([heads, blocks_BK[-1]])[: len(self.start_time_T)]

    def batch(
        self, index_N: npt.NDArray[np.int64], lookback: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Copy windows out of the blocks.

        Parameters
        ----------
        index_N : array
            Positions of windows.
        lookback : int or None
            Newest bars of each window to take, at most the frame's lookback; None for all.

        Returns
        -------
        array [N, lookback, S * F]
            Features, unscaled, symbol by symbol; NaN where unknown.
        """
        taken = self.lookback if lookback is None else lookback
        views_BK = np.lib.stride_tricks.sliding_window_view(self.x_BKSF, taken, axis=1)
        start_N = self.offset_N[index_N] + self.lookback - taken
        x_NSFL = views_BK[self.block_N[index_N], start_N]
        inputs = len(self.symbols) * len(self.features)
        return np.ascontiguousarray(np.moveaxis(x_NSFL, 3, 1)).reshape(-1, taken, inputs)

    def window(self, n: int) -> npt.NDArray[np.float32]:
        """Return window `n` as a view [lookback, S, F] of its block."""
        start = int(self.offset_N[n])
        return self.x_BKSF[self.block_N[n], start : start + self.lookback]


def write_windows(
    panel: Panel, folder: Path, *, lookback: int, horizon: int, stride: int, synthetic: bool
) -> WindowFrame:
    """Cut a panel into blocks, write them with their window index, and return them as read.

    Parameters
    ----------
    lookback : int
        Bars of a window, at least 1.
    horizon : int
        Bars ahead that the label looks, at least 1.
    stride : int
        Windows in a block, 1 to `lookback`. `lookback` stores every bar about twice.
    synthetic : bool
        Whether a simulator made the candles.

    Raises
    ------
    InvalidConfig
        If a length is out of its bounds.
    NotEnoughHistory
        If the panel is shorter than one window and its label. What was stored stays.
    """
    _check_lengths(lookback, horizon, stride)
    bars = len(panel.start_time_T)
    if bars < lookback + horizon:
        raise NotEnoughHistory(
            f"{bars} bars are too few: one window of {lookback} bars and its label of {horizon} "
            f"more need {lookback + horizon}"
        )
    blocks, index = (
        _blocks_table(panel, lookback, horizon, stride),
        _index_table(panel, lookback, horizon, stride),
    )
    meta = {
        "symbols": list(panel.symbols),
        "features": list(panel.features),
        "interval": panel.interval.value,
        "lookback": lookback,
        "horizon": horizon,
        "stride": stride,
        "synthetic": synthetic,
        "snapshot": _snapshot(panel, lookback, horizon),
    }
    with replacing_folder(folder) as temporary:
        # A row group per block: a reader takes the blocks it needs.
        _write(blocks, temporary / BLOCKS_FILE, meta, row_group_size=1)
        _write(index, temporary / INDEX_FILE, meta)
    return read_windows(folder)


def read_windows(folder: Path) -> WindowFrame:
    """Return the windows stored in a folder.

    Raises
    ------
    NotEnoughHistory
        If nothing is stored there.
    SchemaMismatch
        If the files are not those of `write_windows`.
    """
    path = folder / BLOCKS_FILE
    if not path.is_file():
        raise NotEnoughHistory(f"no window tensors in {folder}: materialize window_tensors first")
    try:
        blocks, index = pq.read_table(path), pq.read_table(folder / INDEX_FILE)
    except (OSError, pa.ArrowInvalid) as error:
        raise SchemaMismatch(f"{folder} holds no readable window tensors: {error}") from error
    meta = json.loads((blocks.schema.metadata or {}).get(_META, b"{}"))
    if not meta or not index.schema.equals(INDEX_SCHEMA):
        raise SchemaMismatch(f"{folder} holds no window tensors of this version")
    return WindowFrame(
        symbols=tuple(meta["symbols"]),
        features=tuple(meta["features"]),
        interval=Interval.parse(meta["interval"]),
        lookback=meta["lookback"],
        horizon=meta["horizon"],
        stride=meta["stride"],
        synthetic=meta["synthetic"],
        snapshot=meta["snapshot"],
        x_BKSF=_tensor(blocks, "x"),
        y_BKS=_tensor(blocks, "y"),
        valid_BKS=_tensor(blocks, "valid").view(np.bool_),
        anchor_N=index["anchor_start_time"].to_numpy(),
        block_N=index["block_id"].to_numpy(),
        offset_N=index["offset"].to_numpy(),
        label_end_N=index["label_end"].to_numpy(),
    )


def _check_lengths(lookback: int, horizon: int, stride: int) -> None:
    for name, value in (("lookback", lookback), ("horizon", horizon), ("stride", stride)):
        if value < 1:
            raise InvalidConfig(f"{name}={value}: expected at least 1 bar")
    if stride > lookback:
        raise InvalidConfig(f"stride={stride}: expected at most the lookback, {lookback}")


def _blocks_table(panel: Panel, lookback: int, horizon: int, stride: int) -> pa.Table:
    """Return one row per block; bars beyond the newest one are NaN and not valid."""
    bars = len(panel.start_time_T)
    width = lookback + stride - 1
    first_B = np.arange(0, bars - lookback + 1, stride)
    bar_BK = first_B[:, None] + np.arange(width)
    beyond = bar_BK >= bars
    bar_BK = np.minimum(bar_BK, bars - 1)
    x_BKSF = panel.x_TSF[bar_BK]
    x_BKSF[beyond] = np.nan
    y_BKS = panel.forward_log_return(horizon).astype(np.float32)[bar_BK]
    y_BKS[beyond] = np.nan
    valid_BKS = panel.valid_TS[bar_BK] & ~beyond[:, :, None]
    return pa.table(
        {
            "block_id": pa.array(np.arange(len(first_B), dtype=np.int32)),
            "first_start_time": panel.start_time_T[first_B],
            "x": pa.FixedShapeTensorArray.from_numpy_ndarray(x_BKSF),
            "y": pa.FixedShapeTensorArray.from_numpy_ndarray(y_BKS),
            "valid": pa.FixedShapeTensorArray.from_numpy_ndarray(valid_BKS.view(np.uint8)),
        }
    )


def _index_table(panel: Panel, lookback: int, horizon: int, stride: int) -> pa.Table:
    first_N = np.arange(len(panel.start_time_T) - lookback + 1)
    anchor_N = panel.start_time_T[first_N + lookback - 1]
    label_end_N = anchor_N + (horizon + 1) * panel.interval.milliseconds
    columns = [anchor_N, first_N // stride, first_N % stride, label_end_N]
    arrays = [
        pa.array(column.astype(field.type.to_pandas_dtype()), field.type)
        for column, field in zip(columns, INDEX_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA)


def _snapshot(panel: Panel, lookback: int, horizon: int) -> str:
    """Hash the panel and how it is cut; the stride changes the layout, not the data."""
    digest = hashlib.sha256()
    head = [panel.symbols, panel.features, panel.interval.value, lookback, horizon]
    digest.update(json.dumps(head).encode())
    for array in (panel.start_time_T, panel.x_TSF, panel.close_TS):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _write(
    table: pa.Table, path: Path, meta: dict[str, Any], row_group_size: int | None = None
) -> None:
    described = table.replace_schema_metadata(
        {**(table.schema.metadata or {}), _META: json.dumps(meta).encode()}
    )
    pq.write_table(
        described,
        path,
        compression="zstd",
        row_group_size=row_group_size,
        use_dictionary=False,  # floats hardly repeat: a dictionary of them is larger and slower
        use_byte_stream_split=[
            f"{name}.list.element" for name in ("x", "y") if name in table.column_names
        ],
    )


def _tensor(blocks: pa.Table, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = blocks[name].combine_chunks().to_numpy_ndarray()
    return array
