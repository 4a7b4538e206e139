import gzip
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flash_pipeline.archives import monthly, read_file
from flash_pipeline.errors import DataError
from flash_pipeline.market import CANDLE_SCHEMA, iso_utc


def starts(table):
    return [iso_utc(each) for each in table["start_time"].to_pylist()]


def test_a_line_becomes_a_candle_without_turnover(month):
    file = month(["2024.06.15 13:00,67000.5,67100,66900.1,67050,341.89799999"])
    assert read_file(file).equals(read_file(file).cast(CANDLE_SCHEMA))
    assert read_file(file).to_pylist() == [
        {
            "start_time": 1718445600000,
            "open": 67000.5,
            "high": 67100.0,
            "low": 66900.1,
            "close": 67050.0,
            "volume": 341.89799999,
            "turnover": None,
        }
    ]


def test_the_clock_of_the_archive_is_three_hours_ahead(month, line):
    assert starts(read_file(month([line("2024.06.15 13:00")]))) == ["2024-06-15T10:00Z"]


def test_a_month_begins_in_the_month_before(month, lines):
    found = starts(read_file(month(lines("2024-06-01", 720))))
    assert (found[0], found[-1]) == ("2024-05-31T21:00Z", "2024-06-30T20:00Z")


def test_a_month_that_is_unpacked_is_read_as_well(month, lines):
    packed = month(lines("2024-06-01", 48))
    plain = month(lines("2024-06-01", 48), "BTCUSDT_60_2024-06-01_2024-06-30.csv")
    assert read_file(plain).equals(read_file(packed))


def test_windows_line_ends_are_none_of_a_value(month, line):
    text = f"{line('2024.06.15 13:00')}\r\n{line('2024.06.15 14:00')}\r\n".encode()
    assert read_file(month(text)).num_rows == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("2024.06.15 14:00,1,2,1,2", "row 2: 5 values, expected 6"),
        ("2024.06.15 14:00,1,2,1,2,3,4", "row 2: 7 values, expected 6"),
        ("2024-06-15 14:00,1,2,1,2,3", "row 2: time is '2024-06-15 14:00'"),
        ("2024.6.15 14:00,1,2,1,2,3", "row 2: time is '2024.6.15 14:00'"),
        ("2024.06.31 14:00,1,2,1,2,3", "row 2: time is '2024.06.31 14:00'"),
        ("2024.06.15 25:00,1,2,1,2,3", "row 2: time is '2024.06.15 25:00'"),
        ("2024.06.15 14:00:00,1,2,1,2,3", "row 2: time is '2024.06.15 14:00:00'"),
        ("2024.07.01 00:00,1,2,1,2,3", "row 2: time is '2024.07.01 00:00', outside the days"),
        ("2024.05.31 23:00,1,2,1,2,3", "row 2: time is '2024.05.31 23:00', outside the days"),
        ("2024.06.15 14:30,1,2,1,2,3", "row 2: time is '2024-06-15T11:30Z', expected a start"),
        ("2024.06.15 13:00,1,2,1,2,3", "row 2: time is '2024-06-15T10:00Z', expected later"),
        ("2024.06.15 12:00,1,2,1,2,3", "row 2: time is '2024-06-15T09:00Z', expected later"),
        ("2024.06.15 14:00,x,2,1,2,3", "row 2: open is 'x', expected a number"),
        ("2024.06.15 14:00,1,,1,2,3", "row 2: high is '', expected a number"),
        ("2024.06.15 14:00,1,2,nan,2,3", "row 2: low is 'nan', expected a number"),
        ("2024.06.15 14:00,1,2,1,inf,3", "row 2: close is 'inf', expected a number"),
        ("2024.06.15 14:00,1,2,1,2,-3", "row 2: volume is '-3', expected a number"),
        ("2024.06.15 14:00,1,2,1,2,1e999", "row 2: volume is inf, expected a finite number"),
        ("2024.06.15 14:00,0,2,1,2,3", "row 2: open is 0.0, expected a finite price above 0"),
        ("2024.06.15 14:00,1,2,1,3,3", "row 2: high is 2.0, below the open or the close"),
        ("2024.06.15 14:00,1,2,1.5,2,3", "row 2: low is 1.5, above the open or the close"),
        ('"2024.06.15 14:00",1,2,1,2,3', "row 2: time is "),
    ],
)
def test_a_bad_line_is_named_by_file_row_and_value(month, line, bad, words):
    file = month([line("2024.06.15 13:00"), bad, line("2024.06.15 16:00")])
    with pytest.raises(DataError, match=re.escape(f"{file.path} {words}")):
        read_file(file)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_month_is_refused(month, content):
    with pytest.raises(DataError, match=r"csv\.gz (cannot be read|holds no rows)"):
        read_file(month(content))


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: b"PK" + c, lambda c: c[:40] + b"x"])
def test_a_damaged_file_is_refused(month, lines, damage):
    file = month(lines("2024-06-01", 48))
    file.path.write_bytes(damage(file.path.read_bytes()))
    with pytest.raises(DataError, match="cannot be read"):
        read_file(file)


def test_what_is_no_text_is_refused(month):
    with pytest.raises(DataError):
        read_file(month(b"\xff\xfe\x00,1,1,1,1,1\n"))


def test_a_file_that_unpacks_without_end_is_given_up_at_a_bound(month, monkeypatch):
    monkeypatch.setattr(monthly, "MOST_BYTES", 1_000_000)
    file = month(b"0" * 3_000_000)
    assert file.path.stat().st_size < 10_000
    with pytest.raises(DataError, match="holds more than 1000000 bytes"):
        read_file(file)


cells = st.sampled_from(
    ["2024.06.15 14:00", "2024.06.15 15:00", "1", "2.5", "0", "-1", "nan", "1e999", "", "x", '"']
)
texts = st.lists(st.lists(cells, min_size=5, max_size=7), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=80)
    | st.text(max_size=60).map(str.encode)
    | texts.map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
)
def test_any_content_gives_candles_or_an_error_of_the_tree(month, content):
    file = month(content)
    for packed in (gzip.compress(content), content):
        file.path.write_bytes(packed)
        try:
            table = read_file(file)
        except DataError:
            continue
        table.validate(full=True)
        for row in table.to_pylist():
            assert 0 < row["low"] <= min(row["open"], row["close"])
            assert max(row["open"], row["close"]) <= row["high"]
