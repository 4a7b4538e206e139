import pyarrow.parquet as pq
import pytest

from flash_pipeline.archives import find_files, read_history
from flash_pipeline.errors import DataError
from flash_pipeline.market import Interval, iso_utc

HOUR, DAY, QUARTER = Interval.HOUR_1, Interval.DAY_1, Interval.MIN_15
JUNE = "BTCUSDT_{}_2024-06-01_2024-06-30.csv.gz"
JULY = "BTCUSDT_{}_2024-07-01_2024-07-31.csv.gz"


def starts(history):
    return [iso_utc(each) for each in history.candles["start_time"].to_pylist()]


def test_months_join_without_a_seam(month, lines):
    june = month(lines("2024-06-01", 720), JUNE.format(60))
    july = month(lines("2024-07-01", 744), JULY.format(60))
    history = read_history([july, june], HOUR)
    assert history.candles.num_rows == 720 + 744
    assert starts(history)[719:721] == ["2024-06-30T20:00Z", "2024-06-30T21:00Z"]


def test_finer_candles_become_those_of_the_store(month, line):
    file = month(
        [
            "2024.06.02 13:00,10,12,9,11,1",
            "2024.06.02 13:15,11,15,11,14,2",
            "2024.06.02 13:30,14,14,7,8,3",
            "2024.06.02 13:45,8,9,8,9,4",
        ],
        JUNE.format(15),
    )
    (candle,) = read_history([file], HOUR).candles.to_pylist()
    assert list(candle.values()) == [1717322400000, 10.0, 15.0, 7.0, 9.0, 10.0, None]


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_a_group_that_is_not_whole_makes_no_candle(month, lines, absent):
    quarters = lines("2024-06-02", 8, minutes=15)
    file = month([*quarters[:absent], *quarters[absent + 1 :]], JUNE.format(15))
    history = read_history([file], HOUR)
    assert starts(history) == ["2024-06-01T22:00Z"]
    assert history.incomplete == 1


def test_a_day_is_made_across_the_edge_of_two_months(month, lines):
    june = month(lines("2024-06-30", 24), JUNE.format(60))
    july = month(lines("2024-07-01", 24), JULY.format(60))
    history = read_history([june, july], DAY)
    assert starts(history) == ["2024-06-30T00:00Z"]
    assert history.incomplete == 2  # the days of which three and twenty-one hours are there


def test_turnover_is_the_sum_where_all_of_it_is_known(candles, tmp_path):
    table = candles("2024-06-01", 9, QUARTER)
    pq.write_table(table, tmp_path / "BTCUSDT_15.parquet")
    made = read_history(find_files([tmp_path]), HOUR).candles
    assert made["turnover"].to_pylist() == [
        pytest.approx(sum(table["turnover"].to_pylist()[n : n + 4])) for n in (0, 4)
    ]


def test_files_that_overlap_and_agree_are_one(month, candles, lines, tmp_path):
    """An archive has no turnover: the recording's is kept."""
    month(lines("2024-06-01T03:00", 24), JUNE.format(60))
    pq.write_table(candles("2024-06-01", 13), tmp_path / "BTCUSDT_60.parquet")
    history = read_history(find_files([tmp_path]), HOUR)
    assert history.candles.num_rows == 24
    assert history.candles["turnover"].null_count == 12


def test_finer_files_that_agree_with_coarser_ones_fill_what_those_lack(candles, tmp_path):
    quarters = candles("2024-06-01", 16, QUARTER)
    pq.write_table(quarters, tmp_path / "BTCUSDT_15.parquet")
    hours = read_history(find_files([tmp_path]), HOUR).candles
    pq.write_table(hours.slice(0, 2), tmp_path / "BTCUSDT_60.parquet")
    assert read_history(find_files([tmp_path]), HOUR).candles.equals(hours)


def test_files_that_contradict_each_other_are_named(month, lines, candles, tmp_path):
    june = lines("2024-06-01T03:00", 24)
    month([*june[:7], "2024.06.01 10:00,100,1000,1,100.5,1.5", *june[8:]], JUNE.format(60))
    pq.write_table(candles("2024-06-01", 24), tmp_path / "BTCUSDT_60.parquet")
    words = r"BTCUSDT_60\.parquet and .*\.csv\.gz differ at 2024-06-01T07:00Z: open "
    with pytest.raises(DataError, match=words):
        read_history(find_files([tmp_path]), HOUR)


@pytest.mark.parametrize(("stored", "wanted"), [(DAY, HOUR), (Interval.MIN_3, Interval.MIN_5)])
def test_candles_that_cannot_make_the_stores_are_refused(candles, tmp_path, stored, wanted):
    pq.write_table(candles("2024-06-01", 4, stored), tmp_path / f"BTCUSDT_{stored.value}.parquet")
    with pytest.raises(DataError, match=f"none of interval {wanted.value} can be made of these"):
        read_history(find_files([tmp_path]), wanted)


def test_a_month_of_minutes_makes_all_of_its_hours(candles, tmp_path):
    table = candles("2024-01-01", 60 * 24 * 30 + 1, Interval.MIN_1)
    pq.write_table(table, tmp_path / "BTCUSDT_1.parquet")
    history = read_history(find_files([tmp_path]), HOUR)
    assert (history.candles.num_rows, history.incomplete) == (720, 0)


def test_the_newest_candle_of_a_recording_is_left_out_and_counted(candles, tmp_path):
    """It may have been forming when the file was written; no file tells."""
    pq.write_table(candles("2024-06-01", 5), tmp_path / "BTCUSDT_60.parquet")
    history = read_history(find_files([tmp_path]), HOUR)
    assert starts(history)[-1] == "2024-06-01T03:00Z"
    assert (history.candles.num_rows, history.unproven) == (4, 1)


def test_a_later_recording_has_what_was_forming_at_the_end_of_an_earlier_one(candles, tmp_path):
    early, late = tmp_path / "early", tmp_path / "late"
    for folder in (early, late):
        folder.mkdir()
    whole = candles("2024-06-01", 8)
    forming = whole.slice(0, 5).to_pylist()
    forming[-1]["close"] = forming[-1]["open"]
    pq.write_table(whole.from_pylist(forming, whole.schema), early / "BTCUSDT_60.parquet")
    pq.write_table(whole, late / "BTCUSDT_60.parquet")
    history = read_history(find_files([tmp_path]), HOUR)
    assert history.candles.equals(whole.slice(0, 7))
    assert history.unproven == 1


def test_a_recording_of_one_candle_proves_none(candles, tmp_path):
    pq.write_table(candles("2024-06-01", 1, QUARTER), tmp_path / "BTCUSDT_15.parquet")
    history = read_history(find_files([tmp_path]), HOUR)
    assert (history.candles.num_rows, history.incomplete, history.unproven) == (0, 0, 1)


def test_the_newest_candle_of_an_archive_is_kept(month, lines):
    history = read_history([month(lines("2024-06-01", 720), JUNE.format(60))], HOUR)
    assert (history.candles.num_rows, history.unproven) == (720, 0)
