from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.errors import DataError, InvalidSymbol, InvalidTimeRange
from flash_pipeline.features import (
    FEATURE_NAMES,
    audit_features,
    engineering,
    newest_start,
    read_features,
)
from flash_pipeline.market import Month, parse_instant

HOUR = 3_600_000
START = parse_instant("2024-06-01")
BOTH = ("BTCUSDT", "ETHUSDT")


def _revised(candles: pa.Table, row: int, column: str = "close") -> pa.Table:
    values = candles[column].to_pylist()
    values[row] *= 1.01
    index = candles.schema.get_field_index(column)
    return candles.set_column(index, candles.schema.field(column), pa.array(values))


def _assert_same(found: dict, wanted: dict) -> None:
    assert found["start_time"].tolist() == wanted["start_time"].tolist()
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12, err_msg=name)


def test_a_refresh_says_what_it_did(write, walk, refresh):
    write(walk(100))
    done = refresh()
    assert (done.rows, done.rewritten) == (100, 100)
    assert (done.first_start, done.last_start) == (START, START + 99 * HOUR)
    assert done.nulls == {
        "log_return": 1,
        "volatility": 24,
        "volume_ma_ratio": 23,
        "price_ma_ratio": 23,
        "rsi": 14,
    }


def test_an_hours_append_writes_the_new_rows_alone(write, walk, refresh, rows):
    for hours in (100, 101):
        write(walk(101).slice(0, hours), "BTCUSDT")
        write(walk(101, seed=2).slice(0, hours), "ETHUSDT")
        before = rows() if hours == 101 else []
        done = refresh(symbols=BOTH)
    assert done.rewritten == 2
    assert rows()[:-2] == before


def test_an_hours_append_equals_a_full_computation(write, walk, refresh, values, recomputed):
    for hours in range(96, 101):
        write(walk(100).slice(0, hours))
        refresh()
    _assert_same(values(), recomputed())


def test_the_first_hour_of_a_month_reads_its_warmup_from_the_month_before(
    write, walk, refresh, values, recomputed
):
    whole = walk(31, "2024-06-30")
    write(whole.slice(0, 24))
    refresh("2024-06")
    write(whole)
    done = refresh("2024-07")
    assert (done.rows, done.rewritten) == (7, 7)
    assert done.nulls["rsi"] == 0
    _assert_same(values(), recomputed("2024-06", "2024-07"))


def test_nothing_new_rewrites_nothing(write, walk, refresh, rows):
    write(walk(100))
    refresh()
    before = rows()
    done = refresh()
    assert (done.rows, done.rewritten, rows()) == (100, 0, before)


def test_months_refreshed_one_by_one_equal_all_at_once(write, walk, refresh, values, recomputed):
    write(walk(24 * 40, "2024-06-01"))
    for month in ("2024-06", "2024-07", "2024-06", "2024-07"):
        refresh(month)
    _assert_same(values(), recomputed("2024-06", "2024-07"))


@pytest.mark.parametrize("column", ["close", "volume"])
def test_a_revised_candle_is_computed_anew_with_all_after_it(
    write, walk, refresh, rows, values, recomputed, column
):
    write(walk(100))
    refresh()
    before = rows()
    write(_revised(walk(100), 70, column))
    assert refresh().rewritten == 30
    assert rows()[:70] == before[:70]
    assert rows()[70] != before[70]
    _assert_same(values(), recomputed())


def test_a_revision_at_the_end_of_a_month_reaches_into_the_next(
    write, walk, refresh, values, recomputed
):
    whole = walk(24 * 4, "2024-06-29")
    write(whole)
    refresh("2024-06", "2024-07")
    write(_revised(whole, 47))
    refresh("2024-06")
    _assert_same(values(), recomputed("2024-06", "2024-07"))


def test_a_gap_that_is_filled_is_computed_with_all_after_it(
    write, walk, refresh, values, recomputed
):
    write(walk(100, absent=[50]))
    refresh()
    write(walk(100))
    assert refresh().rewritten == 50
    _assert_same(values(), recomputed())


def test_a_month_filled_in_later_completes_the_warmup_of_the_next(
    write, walk, refresh, values, recomputed
):
    whole = walk(24 * 4, "2024-06-29")
    write(whole.slice(48))
    assert refresh("2024-07").nulls["volatility"] == 24
    write(whole)
    done = refresh("2024-06")
    assert (done.rows, done.rewritten) == (48, 48 + 25)
    _assert_same(values(), recomputed("2024-06", "2024-07"))


def test_the_rows_of_a_candle_that_is_gone_go_too(write, walk, refresh, values, recomputed):
    write(walk(100))
    refresh()
    write(walk(100, absent=[60, 99]))
    done = refresh()
    assert done.rows == 98
    _assert_same(values(), recomputed())


def test_a_month_that_was_not_asked_for_is_left_alone(write, walk, refresh, rows):
    whole = walk(24 * 32, "2024-06-01")
    write(whole)
    refresh("2024-06", "2024-07")
    july = [row for row in rows() if row[1] >= Month(2024, 7).time_range.start]
    write(_revised(whole, 24 * 31))
    assert refresh("2024-06").rewritten == 0
    assert [row for row in rows() if row[1] >= Month(2024, 7).time_range.start] == july


def test_a_revision_after_the_month_asked_for_waits_for_its_own_month(
    write, walk, refresh, values, recomputed
):
    whole = walk(24 * 4, "2024-06-29")
    write(whole)
    refresh("2024-06", "2024-07")
    write(_revised(_revised(whole, 47), 70))
    refresh("2024-06")
    refresh("2024-07")
    _assert_same(values(), recomputed("2024-06", "2024-07"))


def test_other_symbols_rows_are_left_alone(write, walk, refresh, rows):
    for symbol in BOTH:
        write(walk(60), symbol)
    refresh(symbols=BOTH)
    before = [row for row in rows() if row[0] == "ETHUSDT"]
    for symbol in BOTH:
        write(_revised(walk(60), 10), symbol)
    assert refresh(symbols=["BTCUSDT"]).rewritten == 50
    assert [row for row in rows() if row[0] == "ETHUSDT"] == before


def test_a_symbol_that_comes_later_gets_its_whole_past(write, walk, refresh, values, recomputed):
    write(walk(60), "BTCUSDT")
    refresh(symbols=["BTCUSDT"])
    write(walk(60, seed=2), "ETHUSDT")
    refresh(symbols=BOTH)
    for symbol in BOTH:
        _assert_same(values(symbol), recomputed(symbol=symbol))


def test_a_changed_formula_computes_the_table_anew(write, walk, refresh, values, monkeypatch):
    write(walk(60))
    refresh()
    before = values()
    doubled = replace(engineering.CATALOG[0], sql="2 * log_return")
    monkeypatch.setattr(engineering, "CATALOG", (doubled, *engineering.CATALOG[1:]))
    assert refresh().rewritten == 60
    after = values()
    np.testing.assert_allclose(after["log_return"], 2 * before["log_return"])
    np.testing.assert_array_equal(after["rsi"], before["rsi"])
    assert refresh().rewritten == 0


def test_the_catalog_is_kept_beside_its_values(write, walk, refresh, connection):
    write(walk(3))
    refresh()
    names = connection.execute("SELECT name FROM feature_catalog").fetchall()
    assert [name for (name,) in names] == list(FEATURE_NAMES)


def test_an_error_between_delete_and_insert_leaves_the_table_as_it_was(
    write, walk, refresh, rows, monkeypatch
):
    write(walk(60))
    refresh()
    before = rows()
    write(_revised(walk(60), 10))
    with monkeypatch.context() as patch:
        patch.setattr(engineering, "_COLUMNS", ("symbol", "nonsense"))
        with pytest.raises(duckdb.BinderException, match="nonsense"):
            refresh()
    assert rows() == before
    assert refresh().rewritten == 50


def test_no_candles_at_all_are_an_error_by_name(refresh):
    with pytest.raises(DataError, match="no candles of BTCUSDT, ETHUSDT are stored"):
        refresh(symbols=BOTH)


def test_a_month_without_candles_has_no_rows(write, walk, refresh):
    write(walk(10))
    done = refresh("2024-09")
    assert (done.rows, done.first_start, done.last_start) == (0, None, None)


def test_an_earlier_month_that_was_left_without_features_is_brought_in_line(write, walk, refresh):
    write(walk(10))
    assert refresh("2024-09").rewritten == 10
    assert refresh("2024-09").rewritten == 0


@pytest.mark.parametrize("symbol", ["../../etc", "btcusdt", "' OR 1=1 --"])
def test_a_malformed_symbol_is_refused(refresh, symbol):
    with pytest.raises(InvalidSymbol):
        refresh(symbols=[symbol])


def test_a_reversed_range_of_months_is_refused(write, walk, refresh):
    write(walk(10))
    with pytest.raises(InvalidTimeRange):
        refresh("2024-06", "2024-04")


def test_features_are_read_by_start_then_symbol(write, walk, refresh, connection):
    for symbol in BOTH:
        write(walk(5), symbol)
    refresh(symbols=BOTH)
    table = read_features(connection, ["ETHUSDT", "BTCUSDT"], START + 3 * HOUR)
    assert table.column_names == ["symbol", "start_time", "close", "volume", *FEATURE_NAMES]
    assert list(zip(table["symbol"].to_pylist(), table["start_time"].to_pylist(), strict=True)) == [
        (symbol, START + n * HOUR) for n in (3, 4) for symbol in BOTH
    ]


def test_features_are_read_up_to_an_end_and_of_the_asked_symbols(write, walk, refresh, connection):
    for symbol in BOTH:
        write(walk(5), symbol)
    refresh(symbols=BOTH)
    table = read_features(connection, ["ETHUSDT"], START, START + 2 * HOUR)
    assert table["start_time"].to_pylist() == [START, START + HOUR]
    assert set(table["symbol"].to_pylist()) == {"ETHUSDT"}


def test_the_newest_start_is_that_of_any_of_the_symbols(write, walk, refresh, connection):
    write(walk(5), "BTCUSDT")
    write(walk(3), "ETHUSDT")
    refresh(symbols=BOTH)
    assert newest_start(connection, BOTH) == START + 4 * HOUR
    assert newest_start(connection, ["ETHUSDT"]) == START + 2 * HOUR
    assert newest_start(connection, ["XRPUSDT"]) is None


def test_features_in_line_with_the_candles_pass_the_audit(write, walk, refresh, connection, store):
    for symbol in BOTH:
        write(walk(40, absent=[20]), symbol)
    refresh(symbols=BOTH)
    assert audit_features(connection, store, BOTH) == []


def test_the_audit_tells_of_rows_twice_rows_absent_and_rows_without_a_candle(
    write, walk, refresh, connection, store
):
    for symbol in BOTH:
        write(walk(40, absent=[20]), symbol)
    refresh(symbols=BOTH)
    ether = "FROM features WHERE symbol = 'ETHUSDT' AND start_time = "
    connection.execute(f"INSERT INTO features {ether} {START + 5 * HOUR}")
    connection.execute(f"DELETE {ether} {START + 7 * HOUR}")
    connection.execute(f"DELETE {ether} {START + 8 * HOUR}")
    connection.execute(
        f"INSERT INTO features SELECT * REPLACE ({START + 20 * HOUR} AS start_time) "
        f"{ether} {START + 5 * HOUR} LIMIT 1"
    )
    assert audit_features(connection, store, BOTH) == [
        "ETHUSDT: 1 rows twice, 2 candles without features, 1 rows without a candle"
    ]
