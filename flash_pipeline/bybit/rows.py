"""Turns kline rows of strings into candles, a whole answer at a time.

1000 rows take less than a millisecond; a loop over their 7000 cells takes several.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.bybit.fields import MOST_DIGITS, NUMBER_PATTERN
from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer
from flash_pipeline.market import CANDLE_SCHEMA

_WHOLE_NUMBER = f"^{NUMBER_PATTERN}$"


def parse_candles(
    rows: Sequence[Sequence[str]], symbol: str, schema: pa.Schema = CANDLE_SCHEMA
) -> pa.Table:
    """Turn kline rows into candles, oldest first.

    Parameters
    ----------
    rows : sequence
        One string per column of `schema`, in its order; rows in any order. An empty string is
        null in a column that may be null, such as the turnover.
    symbol : str
        Named in errors.
    schema : pa.Schema
        `CANDLE_SCHEMA` or `MARK_CANDLE_SCHEMA`.

    Returns
    -------
    pa.Table
        Rows of `schema`, sorted by start, unique: equal rows of one start count once.

    Raises
    ------
    MalformedAnswer
        If a field is no finite number, or a start no time.
    InconsistentAnswer
        If two rows of one start differ.
    """
    if not rows:
        return schema.empty_table()
    first, *others = zip(*rows, strict=True)
    starts = _parse_starts(first, symbol)
    numbers = _parse_numbers(list(chain.from_iterable(others)))
    columns = [numbers.slice(n * len(rows), len(rows)) for n in range(len(others))]
    _require_numbers(columns, others, first, symbol, schema)
    candles = pa.Table.from_arrays([starts, *columns], schema=schema)
    return _sorted_unique(candles, symbol)


def _parse_starts(cells: Sequence[str], symbol: str) -> pa.Array:
    texts = pa.array(cells, pa.string())
    short = pc.less_equal(pc.binary_length(texts), MOST_DIGITS)
    times = pc.and_(pc.ascii_is_decimal(texts), short)
    if not pc.all(times).as_py():
        bad = cells[times.index(False).as_py()]
        raise MalformedAnswer(
            f"{symbol}: start of a candle is {bad!r}: expected up to {MOST_DIGITS} digits",
            symbol=symbol,
        )
    return texts.cast(pa.int64())


def _parse_numbers(cells: Sequence[str]) -> pa.Array:
    """Return float64 numbers, null where a cell is no finite one."""
    texts = pa.array(cells, pa.string())
    plain = pc.if_else(pc.match_substring_regex(texts, _WHOLE_NUMBER), texts, None)
    numbers = plain.cast(pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def _require_numbers(
    columns: Sequence[pa.Array],
    cells: Sequence[Sequence[str]],
    starts: Sequence[str],
    symbol: str,
    schema: pa.Schema,
) -> None:
    for column, texts, field in zip(columns, cells, list(schema)[1:], strict=True):
        if column.null_count == 0:
            continue
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            if not (field.nullable and texts[row] == ""):
                raise MalformedAnswer(
                    f"{symbol}: {field.name} of candle {starts[row]} is {texts[row]!r:.80}: "
                    "expected a finite number in a string",
                    symbol=symbol,
                )


def _sorted_unique(candles: pa.Table, symbol: str) -> pa.Table:
    starts = candles["start_time"].to_numpy()
    order = np.argsort(starts, kind="stable")
    candles = candles.take(pa.array(order))
    if np.all(np.diff(starts[order]) > 0):
        return candles
    names = candles.column_names
    distinct = candles.group_by(names).aggregate([]).select(names).sort_by(names[0])
    starts = distinct[names[0]].to_numpy()
    twice = starts[1:][np.diff(starts) == 0]
    if twice.size:
        raise InconsistentAnswer(f"{symbol}: two candles of {twice[0]} differ", symbol=symbol)
    return distinct.cast(candles.schema)
