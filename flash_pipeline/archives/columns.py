"""Texts to candles, column by column: each value checked, and the first bad one named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from flash_pipeline.errors import DataError, SchemaMismatch
from flash_pipeline.market import CANDLE_SCHEMA, Interval, iso_utc

NUMBER = r"^[0-9]{1,30}(\.[0-9]{0,30})?([eE][-+]?[0-9]{1,3})?$"
"""What a price or a volume looks like; whether it is finite is seen after that."""

_PRICES = ("open", "high", "low", "close")
_SHOWN = 80  # characters of a bad value in a message
_END_OF_TIME = 10**14  # ms since the epoch: the year 5138; a date cannot hold any number


@dataclass(frozen=True)
class Rows:
    """Where rows come from, for messages."""

    path: Path
    """Their file."""
    first: int = 1
    """Number of the first one: 2 where a line of names comes before it."""

    def refuse(self, row: int, name: str, value: object, expected: str) -> NoReturn:
        """Raise the error of a bad value in a row, counted from 0.

        Raises
        ------
        DataError
            Always.
        """
        shown = f"{value!r:.{_SHOWN}}"
        raise DataError(f"{self.path} row {row + self.first}: {name} is {shown}, {expected}")

    def require(
        self,
        good: npt.NDArray[np.bool_],
        name: str,
        value: Callable[[int], object],
        expected: str,
    ) -> None:
        """Pass if all rows are good, else refuse the first that is not."""
        if not good.all():
            row = int(np.argmin(good))
            self.refuse(row, name, value(row), expected)


def read_texts(
    content: bytes, rows: Rows, names: list[str], *, header: bool
) -> dict[str, pa.ChunkedArray]:
    """Return the columns of comma-separated lines as texts.

    Parameters
    ----------
    names : list of str
        All columns in their order where there is no `header`, else those that are wanted.

    Raises
    ------
    DataError
        If a line has another number of values, or the text is not UTF-8, or there is none.
    """
    bad: list[pyarrow.csv.InvalidRow] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    try:
        content.decode()  # the reader cannot tell of a bad line that is no text
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            pyarrow.csv.ReadOptions(column_names=None if header else names, use_threads=False),
            pyarrow.csv.ParseOptions(quote_char=False, invalid_row_handler=note),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{rows.path} cannot be read: {first_line(error)}") from error
    if bad:
        line = bad[0].number or 0
        raise DataError(
            f"{rows.path} row {line}: {bad[0].actual_columns} values, expected "
            f"{bad[0].expected_columns}: {bad[0].text!r:.{_SHOWN}}"
        )
    if not table.num_rows:
        raise DataError(f"{rows.path} holds no rows")
    return {name: table[name] for name in names}


def parse_numbers(texts: pa.ChunkedArray, name: str, rows: Rows) -> npt.NDArray[np.float64]:
    """Return texts as finite numbers of 0 or more.

    Raises
    ------
    DataError
        If one is none, with its row.
    """
    plain = pc.match_substring_regex(texts, NUMBER).to_numpy()
    rows.require(plain, name, lambda row: texts[row].as_py(), "expected a number")
    numbers: npt.NDArray[np.float64] = pc.cast(texts, pa.float64()).to_numpy()
    return numbers


def make_candles(
    rows: Rows,
    interval: Interval,
    start_time: npt.NDArray[np.int64],
    values: dict[str, npt.NDArray[np.float64]],
) -> pa.Table:
    """Return the candles of columns, checked.

    Parameters
    ----------
    interval : Interval
        Length of the candles: their starts lie on its grid.
    start_time : int64 array [rows]
        Ms since the epoch, UTC.
    values : dict of str to float64 array [rows]
        `open high low close volume`, and `turnover` where there is one: NaN is null.

    Raises
    ------
    DataError
        For the first row that is unsorted, repeated, off the grid or no candle: a price that is
        not positive, a high or low that does not enclose the others, a value that is not finite.
    """

    def shown(row: int) -> str:
        return iso_utc(int(start_time[row]))

    dated = (start_time >= 0) & (start_time < _END_OF_TIME)
    rows.require(dated, "time", lambda row: int(start_time[row]), "expected ms since the epoch")
    grid = f"expected a start of interval {interval.value} (UTC)"
    rows.require(start_time % interval.milliseconds == 0, "time", shown, grid)
    later = np.append(True, np.diff(start_time) > 0)
    rows.require(later, "time", shown, "expected later than the row before")
    _require_values(rows, values)
    turnover = values.get("turnover", np.full(len(start_time), np.nan))
    columns = {"start_time": start_time, **values, "turnover": turnover}
    return pa.Table.from_arrays(
        [pa.array(columns[f.name], f.type, from_pandas=True) for f in CANDLE_SCHEMA],
        schema=CANDLE_SCHEMA,
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).partition("\n")[0]


def require_columns(path: Path, names: list[str], wanted: list[str]) -> None:
    """Pass if all wanted columns are there.

    Raises
    ------
    SchemaMismatch
        If one is missing or there twice.
    """
    for name in wanted:
        if names.count(name) != 1:
            raise SchemaMismatch(
                f"{path} has {names.count(name)} columns {name!r} among {' '.join(names)}: "
                f"expected one each of {' '.join(wanted)}"
            )


def _require_values(rows: Rows, values: dict[str, npt.NDArray[np.float64]]) -> None:
    def shown(name: str) -> Callable[[int], object]:
        return lambda row: float(values[name][row])

    for name in _PRICES:
        good = np.isfinite(values[name]) & (values[name] > 0)
        rows.require(good, name, shown(name), "expected a finite price above 0")
    sizes = [name for name in ("volume", "turnover") if name in values]
    for name in sizes:
        good = np.isfinite(values[name]) & (values[name] >= 0)
        unknown = np.isnan(values[name]) & (name == "turnover")
        rows.require(good | unknown, name, shown(name), "expected a finite number of 0 or more")
    highest = np.maximum(values["open"], values["close"])
    lowest = np.minimum(values["open"], values["close"])
    rows.require(values["high"] >= highest, "high", shown("high"), "below the open or the close")
    rows.require(values["low"] <= lowest, "low", shown("low"), "above the open or the close")
