"""JSON lines of a book's stream to arrays, a block of lines at a time."""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from flash_pipeline.errors import DataError

_LEVELS = pa.list_(pa.list_(pa.string()))
_LINE = pa.schema(
    [
        ("ts", pa.int64()),
        ("type", pa.string()),
        (
            "data",
            pa.struct([("s", pa.string()), ("b", _LEVELS), ("a", _LEVELS), ("u", pa.int64())]),
        ),
    ]
)
_SHOWN = 80  # characters of a bad value in a message


@dataclass(frozen=True)
class Changes:
    """The levels that lines set on one side, in the order of the lines."""

    line: npt.NDArray[np.int64]
    """Position of the line, [changes]."""
    price: npt.NDArray[np.float64]
    """Quote coin, [changes]."""
    size: npt.NDArray[np.float64]
    """Base coin, 0 deletes, [changes]."""


@dataclass(frozen=True)
class Lines:
    """Some lines of a stream."""

    first: int
    """Number of the first line in its file, from 1."""
    time: npt.NDArray[np.int64]
    """`ts`: when the exchange sent it, ms since the epoch, [lines]."""
    update: npt.NDArray[np.int64]
    """`u`, [lines]."""
    snapshot: npt.NDArray[np.bool_]
    """Whether it replaces the whole book, [lines]."""
    sides: tuple[Changes, Changes]
    """Bids and asks."""
    number: npt.NDArray[np.int64]
    """Number of each line in its file, [lines]."""
    torn: tuple[int, ...] = ()
    """Numbers of the lines that are no JSON and left out."""


def parse_lines(text: bytes, first: int, *, source: str, symbol: str, keep_torn: bool) -> Lines:
    """Return what whole lines say.

    Parameters
    ----------
    text : bytes
        Lines, each with its end but the last, which may lack it.
    first : int
        Number of the first one.
    source : str
        Named in errors.
    symbol : str
        Every line must be about it.
    keep_torn : bool
        Whether lines that are no JSON are left out and listed; else they are an error.

    Raises
    ------
    DataError
        If a line is torn, or JSON of another shape: a missing field, another symbol, a level that
        is no price above 0 with a size of 0 or more.
    """
    numbers: npt.NDArray[np.int64] | None = None
    torn: tuple[int, ...] = ()
    try:
        table = _read(text)
    except pa.ArrowInvalid:
        text, numbers, torn = _without_torn(text, first, source, keep=keep_torn)
        table = _read_again(text, source)
    count = table.num_rows
    number = first + np.arange(count) if numbers is None else numbers
    expected = text.count(b"\n") + (not text.endswith(b"\n"))
    if numbers is None and count != expected:
        raise DataError(
            f"{source}: {count} objects in {expected} lines from {first}: expected one each"
        )
    data = table["data"].combine_chunks() if count else pa.array([], _LINE.field("data").type)
    fields = {name: data.field(name) for name in ("s", "b", "a", "u")}
    kinds = table["type"].combine_chunks()
    known = pc.is_in(kinds, pa.array(["snapshot", "delta"]))
    where = _Where(source, number)
    where.require(_whole(table["ts"], data, fields["u"]), "a line without ts, data or u")
    where.require(known.to_numpy(zero_copy_only=False), "a type other than snapshot and delta")
    where.require(_equal(fields["s"], symbol), f"another symbol than {symbol}")
    return Lines(
        first,
        table["ts"].to_numpy(),
        fields["u"].to_numpy(zero_copy_only=False).astype(np.int64),
        pc.equal(kinds, "snapshot").to_numpy(zero_copy_only=False),
        (_changes(fields["b"], where), _changes(fields["a"], where)),
        number,
        torn,
    )


@dataclass(frozen=True)
class _Where:
    """Names the line of a bad value."""

    source: str
    number: npt.NDArray[np.int64]

    def require(self, good: npt.NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise DataError(f"{self.source} line {self.number[int(np.argmin(good))]}: {what}")


def _read(text: bytes) -> pa.Table:
    if not text.strip():
        return _LINE.empty_table()
    return pyarrow.json.read_json(
        pa.BufferReader(text),
        pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        pyarrow.json.ParseOptions(explicit_schema=_LINE, unexpected_field_behavior="ignore"),
    )


def _read_again(text: bytes, source: str) -> pa.Table:
    try:
        return _read(text)
    except pa.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{source} has a line of another shape: {reason:.{_SHOWN}}") from error


def _without_torn(
    text: bytes, first: int, source: str, *, keep: bool
) -> tuple[bytes, npt.NDArray[np.int64], tuple[int, ...]]:
    """Return the lines that are JSON with their numbers, and the numbers of the others."""
    whole, numbers, torn = [], [], []
    for number, line in enumerate(text.splitlines(), first):
        try:
            json.loads(line)
        except ValueError:
            if not keep:
                raise DataError(
                    f"{source} line {number} is torn: {line[-_SHOWN:]!r} ends no JSON object"
                ) from None
            torn.append(number)
        else:
            whole.append(line)
            numbers.append(number)
    return b"\n".join(whole), np.array(numbers, np.int64), tuple(torn)


def _whole(time: pa.ChunkedArray, data: pa.Array, update: pa.Array) -> npt.NDArray[np.bool_]:
    valid = [pc.is_valid(time).to_numpy()]
    valid += [pc.is_valid(each).to_numpy(zero_copy_only=False) for each in (data, update)]
    return np.asarray(np.logical_and.reduce(valid))


def _equal(names: pa.Array, symbol: str) -> npt.NDArray[np.bool_]:
    same = pc.fill_null(pc.equal(names, symbol), False)
    return np.asarray(same.to_numpy(zero_copy_only=False))


def _changes(levels: pa.Array, where: _Where) -> Changes:
    lengths = pc.fill_null(pc.list_value_length(levels), 0).to_numpy(zero_copy_only=False)
    line = np.repeat(np.arange(len(lengths)), lengths)
    pairs = levels.flatten()
    at = _Where(where.source, where.number[line])
    sizes = pc.fill_null(pc.list_value_length(pairs), 0).to_numpy(zero_copy_only=False)
    at.require(sizes == 2, "a level that is no pair of price and size")
    try:
        values = pc.cast(pairs.flatten(), pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{where.source} has a level that is no number: {reason:.{_SHOWN}}"
        ) from error
    price, size = values[0::2], values[1::2]
    at.require(np.isfinite(price) & (price > 0), "a price that is not above 0")
    at.require(np.isfinite(size) & (size >= 0), "a size below 0")
    return Changes(line, np.ascontiguousarray(price), np.ascontiguousarray(size))
