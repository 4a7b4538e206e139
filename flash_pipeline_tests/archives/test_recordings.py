import re

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from flash_pipeline.archives import find_files, read_file, recordings
from flash_pipeline.errors import DataError, SchemaMismatch
from flash_pipeline.market import CANDLE_COLUMNS, CANDLE_SCHEMA

HEADER = ",".join(CANDLE_COLUMNS)
ROW = "1717200000000,100,102,98,101,1.5,150"


@pytest.fixture
def recording(tmp_path):
    """Write a recording: a table as Parquet, or lines or bytes as CSV."""

    def recording(content, symbol="BTCUSDT"):
        path = tmp_path / f"{symbol}_60.{'parquet' if isinstance(content, pa.Table) else 'csv'}"
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text("\n".join(content) + "\n")
        return find_files([path])[0]

    return recording


def test_a_table_comes_back_as_it_is(recording, candles):
    table = candles("2024-06-01", 48)
    assert read_file(recording(table)).equals(table)


def test_lines_come_back_as_the_table_they_were(recording, candles, tmp_path):
    table = candles("2024-06-01", 48)
    pyarrow.csv.write_csv(table, tmp_path / "lines", pyarrow.csv.WriteOptions(quoting_style="none"))
    header, *lines = (tmp_path / "lines").read_text().splitlines()
    assert read_file(recording([header.replace('"', ""), *lines])).equals(table)


@pytest.mark.parametrize("unknown", ["", "nan", "NaN"])
def test_an_unknown_turnover_is_null(recording, candles, unknown):
    lines = recording([HEADER, ROW.replace("150", unknown)])
    assert read_file(lines)["turnover"].to_pylist() == [None]
    table = candles("2024-06-01", 1).set_column(6, "turnover", pa.array([float("nan")]))
    assert read_file(recording(table))["turnover"].to_pylist() == [None]


def test_a_recording_without_turnover_has_none(recording, candles):
    table = candles("2024-06-01", 2).drop_columns(["turnover"])
    assert read_file(recording(table))["turnover"].to_pylist() == [None, None]


def test_columns_are_found_by_name_and_others_left_alone(recording):
    names = "note,close,start_time,open,low,high,volume"
    lines = recording([names, "hello,101,1717200000000,100,98,102,1.5"])
    assert list(read_file(lines).to_pylist()[0].values()) == [
        *(1717200000000, 100.0, 102.0, 98.0, 101.0, 1.5),
        None,
    ]


def test_whole_numbers_and_a_mark_of_byte_order_are_read(recording):
    assert read_file(recording(f"{HEADER}\n{ROW}\n".encode("utf-8-sig"))).num_rows == 1
    table = pa.table(
        {name: [1717200000000 if n == 0 else 7] for n, name in enumerate(CANDLE_COLUMNS)}
    )
    assert read_file(recording(table)).schema.equals(CANDLE_SCHEMA)


@pytest.mark.parametrize("missing", CANDLE_COLUMNS[:-1])
def test_a_missing_column_is_named(recording, candles, missing):
    table = candles("2024-06-01", 2).drop_columns([missing])
    with pytest.raises(SchemaMismatch, match=f"0 columns '{missing}'"):
        read_file(recording(table))
    with pytest.raises(SchemaMismatch, match=f"0 columns '{missing}'"):
        read_file(recording([HEADER.replace(missing, "x"), ROW]))


def test_a_column_that_is_there_twice_is_refused(recording):
    with pytest.raises(SchemaMismatch, match="2 columns 'open'"):
        read_file(recording([f"{HEADER},open", f"{ROW},1"]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x,100,102,98,101,1.5,150", "row 3: start_time is 'x', expected milliseconds"),
        ("1717203600000.5,100,102,98,101,1.5,150", "row 3: start_time is '1717203600000.5'"),
        ("1717203600001,100,102,98,101,1.5,150", "row 3: time is '2024-06-01T01:00Z', expected a"),
        ("1717200000000,100,102,98,101,1.5,150", "row 3: time is '2024-06-01T00:00Z', expected la"),
        ("1717203600000,100,102,98,101,,150", "row 3: volume is ''"),
        ("1717203600000,100,102,98,101,1.5,x", "row 3: turnover is 'x'"),
        ("1717203600000,100,99,98,101,1.5,1", "row 3: high is 99.0, below"),
        ("1717203600000,100,102,98,101,1.5", "row 3: 6 values, expected 7"),
    ],
)
def test_a_bad_line_is_named_by_file_row_and_value(recording, row, words):
    file = recording([HEADER, ROW, row])
    with pytest.raises(DataError, match=re.escape(f"{file.path} {words}")):
        read_file(file)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("start_time", None, "row 2: start_time is None, expected a time"),
        ("start_time", -3_600_000, "row 2: time is -3600000, expected ms"),
        ("start_time", 2**62, f"row 2: time is {2**62}, expected ms"),
        ("open", float("nan"), "row 2: open is nan, expected a finite price above 0"),
        ("close", None, "row 2: close is nan"),
        ("volume", -1.0, "row 2: volume is -1.0"),
        ("turnover", float("inf"), "row 2: turnover is inf"),
    ],
)
def test_a_bad_row_of_a_table_is_named_by_row_and_value(recording, candles, column, value, words):
    table = candles("2024-06-01", 2)
    values = [table[column][0].as_py(), value]
    place, kind = table.schema.get_field_index(column), table.schema.field(column).type
    file = recording(table.set_column(place, pa.field(column, kind), pa.array(values, kind)))
    with pytest.raises(DataError, match=re.escape(f"{file.path} {words}")):
        read_file(file)


def test_a_column_of_another_type_is_refused(recording, candles):
    table = candles("2024-06-01", 2).set_column(1, "open", pa.array(["a", "b"]))
    with pytest.raises(SchemaMismatch, match="cannot be read"):
        read_file(recording(table))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff" * 40])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    for suffix in ("parquet", "csv"):
        path = tmp_path / f"BTCUSDT_60.{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"BTCUSDT_60.{suffix}"):
            read_file(find_files([path])[0])


def test_no_rows_are_refused(recording, candles):
    with pytest.raises(DataError, match="holds 0 rows"):
        read_file(recording(candles("2024-06-01", 0)))
    with pytest.raises(DataError, match="holds no rows"):
        read_file(recording([HEADER]))


def test_more_rows_than_there_can_be_are_refused_before_they_are_read(
    recording, candles, monkeypatch
):
    monkeypatch.setattr(recordings, "MOST_ROWS", 10)
    with pytest.raises(DataError, match="holds 11 rows: expected 1 to 10"):
        read_file(recording(candles("2024-06-01", 11)))


def test_more_bytes_than_there_can_be_are_refused(recording, monkeypatch):
    monkeypatch.setattr(recordings, "MOST_BYTES", 10)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        read_file(recording([HEADER, ROW]))


def test_candles_of_a_simulator_are_no_recording(recording, candles):
    table = candles("2024-06-01", 2).replace_schema_metadata({"synthetic": "True"})
    with pytest.raises(SchemaMismatch, match="was made by a simulator"):
        read_file(recording(table))


@pytest.mark.real_data
def test_the_recorded_candles_are_read_whole(real_data):
    files = [file for file in find_files([real_data]) if file.symbol in ("BTCUSDT", "SOLUSDT")]
    tables = {file.symbol: read_file(file) for file in files}
    assert {table.num_rows for table in tables.values()} == {23_760}
    assert tables["BTCUSDT"]["turnover"].null_count == 0
    assert tables["SOLUSDT"]["turnover"].null_count == 23_760
