import math

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.market import Interval
from flash_pipeline.windows import panel_from_features

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000
FEATURES = ("log_return", "rsi")


def rows_of(symbol, hours, *, unknown_rsi=()):
    """Return one row per hour whose values tell the symbol and the hour."""
    base = {"BTCUSDT": 1000.0, "ETHUSDT": 2000.0, "SOLUSDT": 3000.0}[symbol]
    return [
        {
            "symbol": symbol,
            "start_time": FIRST_MS + hour * HOUR_MS,
            "close": base + hour,
            "log_return": base + hour + 0.25,
            "rsi": None if hour in unknown_rsi else base + hour + 0.5,
        }
        for hour in hours
    ]


def panel_of(*groups, symbols=("BTCUSDT", "ETHUSDT")):
    table = pa.Table.from_pylist([row for rows in groups for row in rows])
    return panel_from_features(table, symbols, FEATURES, Interval.HOUR_1)


def hours_of(panel):
    return ((panel.start_time_T - FIRST_MS) // HOUR_MS).tolist()


def test_symbols_are_aligned_by_time_across_a_gap():
    panel = panel_of(rows_of("BTCUSDT", [0, 1, 4, 5]), rows_of("ETHUSDT", range(6)))
    assert hours_of(panel) == [0, 1, 2, 3, 4, 5]
    assert panel.close_TS[4].tolist() == [1004.0, 2004.0]
    assert np.isnan(panel.close_TS[2:4, 0]).all()
    assert panel.close_TS[2:4, 1].tolist() == [2002.0, 2003.0]


def test_a_late_listing_starts_at_its_own_hour():
    panel = panel_of(rows_of("BTCUSDT", range(5)), rows_of("ETHUSDT", range(3, 5)))
    assert np.isnan(panel.x_TSF[:3, 1]).all()
    assert panel.x_TSF[3].tolist() == [[1003.25, 1003.5], [2003.25, 2003.5]]


def test_a_bar_that_no_symbol_has_is_still_a_bar():
    panel = panel_of(rows_of("BTCUSDT", [0, 2]), rows_of("ETHUSDT", [0, 2]))
    assert hours_of(panel) == [0, 1, 2]
    assert np.isnan(panel.close_TS[1]).all()
    assert not panel.valid_TS[1].any()


def test_the_axes_follow_the_order_asked_for():
    panel = panel_of(
        rows_of("BTCUSDT", [0]), rows_of("ETHUSDT", [0]), symbols=("ETHUSDT", "BTCUSDT")
    )
    assert panel.x_TSF.tolist() == [[[2000.25, 2000.5], [1000.25, 1000.5]]]
    assert panel.x_TSF.dtype == np.float32
    assert panel.close_TS.dtype == np.float64


def test_the_warm_up_before_the_first_whole_bar_is_left_out():
    panel = panel_of(
        rows_of("BTCUSDT", range(5), unknown_rsi=(0, 1, 2)),
        rows_of("ETHUSDT", range(5), unknown_rsi=(0, 1, 2, 3)),
    )
    assert hours_of(panel) == [3, 4]
    assert panel.valid_TS.tolist() == [[True, False], [True, True]]


def test_a_null_after_the_warm_up_leaves_the_bar_and_marks_it():
    panel = panel_of(rows_of("BTCUSDT", range(4), unknown_rsi=(2,)), rows_of("ETHUSDT", range(4)))
    assert hours_of(panel) == [0, 1, 2, 3]
    assert math.isnan(panel.x_TSF[2, 0, 1])
    assert panel.x_TSF[2, 0, 0] == 1002.25
    assert panel.valid_TS[2].tolist() == [False, True]


def test_rows_of_other_symbols_are_ignored():
    panel = panel_of(rows_of("BTCUSDT", [3, 4]), rows_of("SOLUSDT", range(9)), symbols=("BTCUSDT",))
    assert hours_of(panel) == [3, 4]
    assert panel.symbols == ("BTCUSDT",)


def test_a_symbol_without_any_row_is_a_column_of_nan():
    panel = panel_of(rows_of("BTCUSDT", range(3)))
    assert np.isnan(panel.x_TSF[:, 1]).all()
    assert not panel.valid_TS[:, 1].any()


def test_the_order_of_the_rows_does_not_matter():
    rows = rows_of("BTCUSDT", [0, 1, 4]) + rows_of("ETHUSDT", range(5))
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    one, other = panel_of(rows), panel_of(shuffled)
    assert one.start_time_T.tolist() == other.start_time_T.tolist()
    np.testing.assert_array_equal(one.x_TSF, other.x_TSF)
    np.testing.assert_array_equal(one.close_TS, other.close_TS)


def test_a_table_in_chunks_is_read_whole():
    rows = rows_of("BTCUSDT", range(4))
    table = pa.concat_tables([pa.Table.from_pylist(rows[:2]), pa.Table.from_pylist(rows[2:])])
    panel = panel_from_features(table, ("BTCUSDT",), FEATURES, Interval.HOUR_1)
    assert panel.close_TS[:, 0].tolist() == [1000.0, 1001.0, 1002.0, 1003.0]


def test_a_table_without_the_symbols_is_refused():
    with pytest.raises(NotEnoughHistory, match="no features of BTCUSDT, ETHUSDT are stored"):
        panel_of(rows_of("SOLUSDT", range(5)))


def test_an_empty_table_is_refused():
    empty = pa.Table.from_pylist(rows_of("BTCUSDT", [0])).slice(0, 0)
    with pytest.raises(NotEnoughHistory, match="no features"):
        panel_from_features(empty, ("BTCUSDT",), FEATURES, Interval.HOUR_1)


def test_bars_that_are_all_warm_up_are_refused():
    with pytest.raises(NotEnoughHistory, match=r"3 bars from 2024-01-01T00:00Z are too few"):
        panel_of(rows_of("BTCUSDT", range(3), unknown_rsi=range(3)))


def test_the_forward_return_is_that_of_the_closes_by_hand(make_panel):
    panel = make_panel(5, symbols=1)
    panel.close_TS[:, 0] = [100.0, 110.0, np.nan, 99.0, 121.0]
    y_T = panel.forward_log_return(1)[:, 0]
    assert y_T[0] == pytest.approx(math.log(1.1))
    assert y_T[3] == pytest.approx(math.log(121 / 99))
    assert np.isnan(y_T[[1, 2, 4]]).all()
    y_T = panel.forward_log_return(3)[:, 0]
    assert y_T[:2] == pytest.approx([math.log(0.99), math.log(1.1)])
    assert np.isnan(y_T[2:]).all()
