"""Turns kline rows of strings into candles, a whole answer at a time.

    body ──► lift_cells ──► all cells end to end ──► parse_cells ──► candles
      └────► JSON, rows of strings ──► parse_candles ──┘  (where anything is out of the ordinary)

Both ways check every cell alike. The first never makes Python objects of the 7000 cells of 1000
rows, which is most of the time that the second takes.
"""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.bybit.fields import MOST_DIGITS, NUMBER_PATTERN
from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer
from flash_pipeline.market import CANDLE_SCHEMA

_WHOLE_NUMBER = f"^{NUMBER_PATTERN}$"
_LIST_OPENS, _NEXT_ROW, _LIST_CLOSES = b'"list":[["', b'"],["', b'"]]'


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
    return parse_cells(pa.array(list(chain.from_iterable(rows)), pa.string()), symbol, schema)


def parse_cells(cells: pa.Array, symbol: str, schema: pa.Schema = CANDLE_SCHEMA) -> pa.Table:
    """Turn the cells of rows, laid end to end, into candles: see `parse_candles`."""
    columns = len(schema)
    starts = _parse_starts(cells.take(pa.array(np.arange(0, len(cells), columns))), symbol)
    values_NC = _parse_numbers(cells).reshape(-1, columns)
    known_NC = np.isfinite(values_NC)
    if not known_NC.all():
        _require_numbers(known_NC, cells, symbol, schema)
    numbers = [
        pa.array(values_N, pa.float64(), mask=~known_N)
        for values_N, known_N in zip(values_NC.T[1:], known_NC.T[1:], strict=True)
    ]
    return _sorted_unique(pa.Table.from_arrays([starts, *numbers], schema=schema), symbol)


def lift_cells(body: bytes, columns: int) -> tuple[bytes, pa.Array] | None:
    """Take the rows out of an answer without reading them as JSON.

    Parameters
    ----------
    body : bytes
        A kline answer.
    columns : int
        Cells of a row.

    Returns
    -------
    rest, cells : bytes, pa.Array
        The answer with an empty list, and the strings of all rows end to end. None where the
        rows are not plainly `[["…","…"],["…","…"]]` with as many strings each: JSON then decides.
    """
    head, _, tail = body.partition(_LIST_OPENS)
    rows, closed, tail = tail.partition(_LIST_CLOSES)
    if not closed or b'"list"' in head or b'"list"' in tail or b"\\" in rows:
        return None
    if rows.count(b'"') + 2 != 2 * columns * (rows.count(_NEXT_ROW) + 1):
        return None
    try:
        text = pa.array([rows], pa.string())
    except pa.ArrowInvalid:  # no UTF-8
        return None
    cells = pc.split_pattern(pc.split_pattern(text, _NEXT_ROW.decode()).flatten(), '","')
    if not pc.all(pc.equal(pc.list_value_length(cells), columns)).as_py():
        return None
    return head + b'"list":[]' + tail, cells.flatten()


def _parse_starts(texts: pa.Array, symbol: str) -> pa.Array:
    short = pc.less_equal(pc.binary_length(texts), MOST_DIGITS)
    times = pc.and_(pc.ascii_is_decimal(texts), short)
    if not pc.all(times).as_py():
        bad = texts[times.index(False).as_py()].as_py()
        raise MalformedAnswer(
            f"{symbol}: start of a candle is {bad!r}: expected up to {MOST_DIGITS} digits",
            symbol=symbol,
        )
    return texts.cast(pa.int64())


def _parse_numbers(texts: pa.Array) -> npt.NDArray[np.float64]:
    """Return the numbers, NaN where a cell is none."""
    plain = pc.match_substring_regex(texts, _WHOLE_NUMBER)
    if not pc.all(plain).as_py():
        texts = pc.if_else(plain, texts, None)
    numbers: npt.NDArray[np.float64] = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _require_numbers(
    known_NC: npt.NDArray[np.bool_], cells: pa.Array, symbol: str, schema: pa.Schema
) -> None:
    columns = len(schema)
    empty_NC = pc.equal(cells, "").to_numpy(zero_copy_only=False).reshape(-1, columns)
    bad_NC = ~known_NC & ~(empty_NC & np.array([field.nullable for field in schema]))
    if bad_NC.any():
        row, column = np.argwhere(bad_NC)[0].tolist()
        start, text = cells[row * columns].as_py(), cells[row * columns + column].as_py()
        raise MalformedAnswer(
            f"{symbol}: {schema.field(column).name} of candle {start} is {text!r:.80}: "
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
