"""Literal windows for other tools: one row per window, no index needed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.windows.blocks import WindowFrame

_ROWS_PER_GROUP = 64


def export_windows(frame: WindowFrame, path: Path, *, stride: int = 24) -> int:
    """Write every `stride`-th window, counted back from the newest, as one Parquet row each.

    Columns: `anchor_start_time` (ms), `x` tensor [lookback, symbols, features] float32, unscaled,
    NaN where unknown, and `y` tensor [symbols]. At stride 1 a year of the chapter's windows takes
    1.8 GB; rows are written in groups, so memory stays bounded.

    Parameters
    ----------
    stride : int
        Bars from one exported window to the next, at least 1.

    Returns
    -------
    int
        Windows written.

    Raises
    ------
    InvalidConfig
        If the stride is below 1.
    """
    if stride < 1:
        raise InvalidConfig(f"stride={stride}: expected at least 1 bar")
    chosen = np.arange(len(frame.anchor_N) - 1, -1, -stride)[::-1]
    label_NS = frame.label_NS
    with replacing_file(path) as temporary:
        writer = None
        for group in np.split(chosen, range(_ROWS_PER_GROUP, len(chosen), _ROWS_PER_GROUP)):
            x_NLSF = np.stack([frame.window(n) for n in group])
            rows = pa.table(
                {
                    "anchor_start_time": frame.anchor_N[group],
                    "x": pa.FixedShapeTensorArray.from_numpy_ndarray(x_NLSF),
                    "y": pa.FixedShapeTensorArray.from_numpy_ndarray(
                        np.ascontiguousarray(label_NS[group])
                    ),
                }
            )
            if writer is None:
                writer = pq.ParquetWriter(temporary, rows.schema, compression="zstd")
            writer.write_table(rows)
        if writer is not None:
            writer.close()
    return len(chosen)
