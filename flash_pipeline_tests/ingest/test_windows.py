from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.ingest.windows import REREAD_CANDLES, pack_windows, runs, starts_to_read
from flash_pipeline.market import Interval, TimeRange, parse_instant

START = parse_instant("2024-05-01")
MAX_CANDLES = 1000


def _windows(held: set[int], bars: int, closed_bars: int, interval: Interval) -> list[range]:
    """Ask by numbers of bars from START, and return the windows so."""
    step = interval.milliseconds
    stored = np.array(sorted(START + n * step for n in held), dtype=np.int64)
    closed = TimeRange(START, START + bars * step)
    starts = starts_to_read(stored, closed, interval, START + closed_bars * step)
    windows = pack_windows(starts, interval, MAX_CANDLES)
    return [range((w.start - START) // step, (w.end - START) // step) for w in windows]


def _hourly(held: set[int], bars: int, closed_bars: int | None = None) -> list[range]:
    return _windows(held, bars, bars if closed_bars is None else closed_bars, Interval.HOUR_1)


def test_an_empty_store_asks_for_all_in_the_fewest_windows():
    assert _hourly(set(), 2500) == [range(1000), range(1000, 2000), range(2000, 2500)]


def test_a_full_store_asks_for_the_newest_three_again():
    assert _hourly(set(range(100)), 100) == [range(97, 100)]


def test_a_new_hour_is_one_window_with_the_newest_three_stored():
    assert _hourly(set(range(99)), 100) == [range(96, 100)]


def test_after_a_pause_the_newest_three_stored_are_read_again():
    assert _hourly(set(range(90)), 100) == [range(87, 100)]


def test_a_full_store_of_a_month_gone_by_asks_for_nothing():
    assert _hourly(set(range(100)), 100, 200) == []


def test_a_month_just_over_is_read_again_as_far_as_the_newest_three_reach():
    assert _hourly(set(range(100)), 100, 101) == [range(98, 100)]


def test_a_gap_is_asked_for_and_nothing_beside_it():
    assert _hourly(set(range(5000)) - {40, 41}, 5000, 9000) == [range(40, 42)]


def test_near_gaps_share_a_window_and_far_ones_do_not():
    held = set(range(5000)) - {40, 900, 2000}
    assert _hourly(held, 5000, 9000) == [range(40, 901), range(2000, 2001)]


def test_nothing_wanted_is_no_window():
    assert _hourly(set(), 0) == []


@pytest.mark.parametrize("bars", [999, 1000, 1001, 2000, 2001])
def test_n_candles_take_n_over_1000_windows_rounded_up(bars):
    assert len(_hourly(set(), bars)) == -(-bars // MAX_CANDLES)


@given(
    bars=st.integers(0, 3500),
    beyond=st.integers(0, 5),
    gaps=st.none() | st.sets(st.integers(0, 3500), max_size=40),
    interval=st.sampled_from([Interval.MIN_15, Interval.HOUR_1, Interval.DAY_1]),
)
def test_windows_cover_exactly_what_is_wanted(bars, beyond, gaps, interval):
    held = set() if gaps is None else set(range(bars)) - gaps
    wanted = {n for n in range(bars) if n not in held or bars + beyond - REREAD_CANDLES <= n}
    windows = _windows(held, bars, bars + beyond, interval)
    assert wanted <= {n for window in windows for n in window}
    for window in windows:
        assert 0 < len(window) <= MAX_CANDLES
        assert {window[0], window[-1]} <= wanted  # no window reaches beyond what is wanted
    for window, following in pairwise(windows):
        assert window[0] + MAX_CANDLES <= following[0]  # so no two of them could be one


def test_starts_fall_into_runs_of_neighbours():
    hours = np.array([3, 4, 5, 9, 20, 21]) * Interval.HOUR_1.milliseconds
    found = [(a // 3_600_000, b // 3_600_000) for a, b in runs(hours, Interval.HOUR_1)]
    assert found == [(3, 5), (9, 9), (20, 21)]
    assert runs(hours[:0], Interval.HOUR_1) == []
