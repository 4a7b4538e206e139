"""Reads recordings: `{SYMBOL}_{INTERVAL}.parquet` or `.csv` with named columns.

`start_time` (ms since the epoch, UTC), `open high low close volume`, and `turnover` where it was
recorded; other columns are left alone. A turnover that is missing, empty or NaN is null.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flash_pipeline.archives.columns import (
    Rows,
    first_line,
    make_candles,
    parse_numbers,
    read_texts,
    require_columns,
)
from flash_pipeline.archives.files import CandleFile
from flash_pipeline.errors import DataError, SchemaMismatch

MOST_BYTES = 256 * 1024 * 1024
"""Largest CSV file that is read, bytes: five years of minutes."""

MOST_ROWS = 20_000_000
"""Most rows of a Parquet file: 38 years of minutes."""

_START = "start_time"
_VALUES = ["open", "high", "low", "close", "volume"]
_TURNOVER = "turnover"
_HEADER_BYTES = 64 * 1024
_TIME = r"^[0-9]{1,14}$"


def read_recording(file: CandleFile) -> pa.Table:
    """Return a recording's candles, checked, as `CANDLE_SCHEMA`.

    Raises
    ------
    SchemaMismatch
        If a column is missing or cannot be read as numbers, or a simulator made the candles.
    DataError
        If the file is damaged or too large, or has a row that is no candle; with the file, the
        row and the value.
    """
    return _read_csv(file) if file.path.suffix == ".csv" else _read_parquet(file)


def _read_parquet(file: CandleFile) -> pa.Table:
    try:
        with pq.ParquetFile(file.path) as stored:
            schema, count = stored.schema_arrow, stored.metadata.num_rows
            wanted = _wanted(file, schema.names)
            if (schema.metadata or {}).get(b"synthetic") == b"True":
                raise SchemaMismatch(f"{file.path} was made by a simulator: it is no recording")
            if not 0 < count <= MOST_ROWS:
                raise DataError(f"{file.path} holds {count} rows: expected 1 to {MOST_ROWS}")
            table = stored.read(wanted)
            types = [pa.int64() if name == _START else pa.float64() for name in wanted]
            table = table.select(wanted).cast(pa.schema(list(zip(wanted, types, strict=True))))
    except (pa.ArrowException, OSError) as error:
        raise SchemaMismatch(f"{file.path} cannot be read: {first_line(error)}") from error
    rows = Rows(file.path)
    known = pc.is_valid(table[_START]).to_numpy()
    rows.require(known, _START, lambda _: None, "expected a time")
    values = {name: table[name].to_numpy() for name in wanted if name != _START}
    return make_candles(rows, file.interval, table[_START].to_numpy(), values)


def _read_csv(file: CandleFile) -> pa.Table:
    if file.path.stat().st_size > MOST_BYTES:
        raise DataError(f"{file.path} is larger than {MOST_BYTES} bytes")
    content = file.path.read_bytes()
    header = content[:_HEADER_BYTES].partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    wanted = _wanted(file, header.strip().split(","))
    rows = Rows(file.path, first=2)
    texts = read_texts(content, rows, wanted, header=True)
    plain = pc.match_substring_regex(texts[_START], _TIME).to_numpy()
    rows.require(plain, _START, lambda row: texts[_START][row].as_py(), "expected milliseconds")
    values = {name: parse_numbers(texts[name], name, rows) for name in _VALUES}
    if _TURNOVER in wanted:
        unknown = pc.is_in(texts[_TURNOVER], pa.array(["", "nan", "NaN"]))
        numbers = parse_numbers(pc.if_else(unknown, "0", texts[_TURNOVER]), _TURNOVER, rows)
        values[_TURNOVER] = np.where(unknown.to_numpy(), np.nan, numbers)
    starts = pc.cast(texts[_START], pa.int64()).to_numpy()
    return make_candles(rows, file.interval, starts, values)


def _wanted(file: CandleFile, names: list[str]) -> list[str]:
    wanted = [_START, *_VALUES, *([_TURNOVER] if _TURNOVER in names else [])]
    require_columns(file.path, names, wanted)
    return wanted
