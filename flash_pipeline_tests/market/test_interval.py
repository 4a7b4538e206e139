import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidInterval
from flash_pipeline.market import Interval

times = st.integers(-(10**14), 10**14)
intervals = st.sampled_from(list(Interval))


@pytest.mark.parametrize(
    ("code", "minutes"), [("1", 1), ("5", 5), ("60", 60), ("720", 720), ("D", 1440)]
)
def test_an_interval_has_the_exchanges_code_and_a_length(code, minutes):
    interval = Interval.parse(code)
    assert (interval.value, interval.minutes) == (code, minutes)
    assert interval.milliseconds == minutes * 60_000


@pytest.mark.parametrize("code", ["W", "M", "7", "", "1h", "060", " 60", "d", 60, None])
def test_any_other_code_is_refused_with_the_choices(code):
    with pytest.raises(InvalidInterval, match=r"expected one of 1 3 5 .* 720 D"):
        Interval.parse(code)


def test_a_year_has_8760_hours_and_365_days():
    assert Interval.HOUR_1.bars_per_year == 8760
    assert Interval.DAY_1.bars_per_year == 365


@given(intervals, times)
def test_floor_is_the_start_of_the_candle_that_contains_the_instant(interval, time):
    start = interval.floor(time)
    assert start % interval.milliseconds == 0
    assert start <= time < start + interval.milliseconds


@given(intervals, times)
def test_ceil_is_the_first_start_at_or_after_the_instant(interval, time):
    start = interval.ceil(time)
    assert start % interval.milliseconds == 0
    assert start - interval.milliseconds < time <= start


@given(intervals, times)
def test_floor_and_ceil_agree_on_the_grid_alone(interval, time):
    on_grid = time % interval.milliseconds == 0
    assert (interval.floor(time) == interval.ceil(time)) == on_grid
