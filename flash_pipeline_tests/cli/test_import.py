"""`flash_pipeline import`, as a person starts it."""

import gzip
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.lock import claim_home

HOUR_MS = 3_600_000
FIRST = 1_717_200_000_000  # 2024-06-01T00:00Z


def candles(count, *, close=101.0):
    rows = [(FIRST + n * HOUR_MS, 100.0, 102.0, 98.0, close, 1.5, 150.0) for n in range(count)]
    named = [dict(zip(CANDLE_SCHEMA.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(named, CANDLE_SCHEMA)


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    pq.write_table(candles(49), folder / "BTCUSDT_60.parquet")
    pq.write_table(candles(25), folder / "ETHUSDT_60.parquet")
    return folder


def stored(command, symbol="BTCUSDT"):
    return KlineStore(command.settings.klines, Interval.HOUR_1).read_all(symbol)


def table_of(done):
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0]: row[1:] for row in rows if row and re.fullmatch(r"[A-Z]+USDT", row[0])}


def test_a_folder_of_recordings_is_stored_and_told_by_symbol(command, recordings):
    done = command("import", str(recordings))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:4] == ["symbol", "files", "candles", "added"]
    assert table_of(done) == {
        "BTCUSDT": ["1", "48", "48", "0", "0", "1"],
        "ETHUSDT": ["1", "24", "24", "0", "0", "1"],
    }
    assert done.stdout.endswith(f"Stored in {command.settings.klines}\n")
    assert stored(command).equals(candles(48))


def test_months_of_the_archive_are_stored_by_their_utc_hours(command, tmp_path):
    lines = [f"2024.06.01 {hour:02d}:00,100,102,98,101,1.5" for hour in range(24)]
    path = tmp_path / "BTCUSDT_60_2024-06-01_2024-06-30.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    done = command("import", str(path), "--format", "archive")
    assert done.returncode == 0, done.stderr
    assert stored(command)["start_time"][0].as_py() == FIRST - 3 * HOUR_MS
    months = KlineStore(command.settings.klines, Interval.HOUR_1).months("BTCUSDT")
    assert months == [Month(2024, 5), Month(2024, 6)]


def test_symbols_and_interval_can_be_chosen(command, recordings):
    done = command("import", str(recordings), "--symbols", "ETHUSDT", "--interval", "240")
    assert table_of(done) == {"ETHUSDT": ["1", "6", "6", "0", "0", "1"]}


def test_what_differs_from_the_stored_candles_is_told(command, recordings):
    store = KlineStore(command.settings.klines, Interval.HOUR_1)
    store.write_month("BTCUSDT", Month(2024, 6), candles(3, close=101.5), synthetic=False)
    done = command("import", str(recordings), "--symbols", "BTCUSDT")
    assert done.returncode == 0, done.stderr
    assert "BTCUSDT: 3 candles differ from the stored ones, which stay; first 2024-06-01" in (
        done.stdout
    )
    assert stored(command)["close"].to_pylist()[:4] == [101.5, 101.5, 101.5, 101.0]


def test_the_newest_candle_of_a_recording_is_told_as_left_out(command, recordings):
    done = command("import", str(recordings), "--symbols", "BTCUSDT")
    assert "BTCUSDT: 1 candles are the newest of their recording" in done.stdout


def test_a_home_of_simulated_candles_is_refused(command, recordings):
    store = KlineStore(command.settings.klines, Interval.HOUR_1)
    store.write_month("BTCUSDT", Month(2024, 6), candles(3), synthetic=True)
    done = command("import", str(recordings))
    assert done.returncode == 1
    assert re.search(r"^error: .* holds simulated candles", done.stderr, re.M)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "nowhere does not exist"),
        (("BTCUSDT_60.csv",), "BTCUSDT_60.csv row 2: open is 'x', expected a number"),
        (("BTCUSDT_60.csv", "--interval", "7"), "interval '7' is unknown"),
        (("BTCUSDT_60.csv", "--symbols", "ETHUSDT"), "'ETHUSDT' has no candle file"),
        (("BTCUSDT_60.csv", "--symbols", "eth"), "'eth'"),
        (("BTCUSDT_60.csv", "--format", "archive"), "is not named as a candle file"),
    ],
)
def test_bad_input_is_one_line_that_names_it(command, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    names = ",".join(CANDLE_SCHEMA.names)
    (tmp_path / "BTCUSDT_60.csv").write_text(f"{names}\n{FIRST},x,2,1,2,3,4\n")
    done = command("import", *arguments)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*\n", done.stderr), done.stderr
    assert words in done.stderr
    assert not command.settings.klines.exists()


def test_an_import_is_refused_while_a_run_is_active(command, recordings):
    command.home.mkdir()
    with claim_home(command.home) as claim:
        claim.name_run("a-run")
        done = command("import", str(recordings))
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: run a-run is active" in done.stderr
    assert not command.settings.klines.exists()


def test_help_tells_the_names_of_the_files(command):
    done = command("import", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "BTCUSDT_60_2024-06-01_2024-06-30.csv.gz" in done.stdout
