from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidTimeRange
from flash_pipeline.market import (
    Interval,
    Month,
    TimeRange,
    compact_utc,
    iso_utc,
    month_range,
    parse_instant,
)

HOUR = 3_600_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = st.builds(Month, st.integers(1970, 2999), st.integers(1, 12))
INSTANTS = st.integers(0, parse_instant("2999-12-31"))


@pytest.mark.parametrize(
    "text",
    [
        "2024-06-30T23:30:00Z",
        "2024-06-30T23:30:00",
        "2024-06-30T23:30",
        "2024-06-30 23:30:00+00:00",
        "2024-07-01T02:30:00+03:00",
        "20240630T233000Z",
    ],
)
def test_an_iso_8601_text_is_an_instant_and_utc_unless_it_says_otherwise(text):
    assert parse_instant(text) == 1_719_790_200_000


def test_a_date_is_its_midnight_in_utc():
    assert parse_instant("2024-07-01") == 1_719_792_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13-01", "2024-06-31", "1719790200", None])
def test_what_is_no_iso_8601_is_refused_by_name(text):
    with pytest.raises(InvalidTimeRange, match=r"time .* is malformed: expected ISO 8601"):
        parse_instant(text)


@given(INSTANTS)
@example(1_099_006_878_916)  # a float of seconds loses its last millisecond
def test_an_instant_survives_its_iso_form_to_the_millisecond(time):
    moment = EPOCH + timedelta(milliseconds=time)
    assert parse_instant(moment.isoformat()) == time


@given(INSTANTS)
def test_people_and_file_names_see_the_instant_to_the_minute(time):
    minute = time // 60_000 * 60_000
    assert parse_instant(iso_utc(time)) == minute
    assert parse_instant(compact_utc(time)) == minute
    assert ":" not in compact_utc(time)


def test_a_range_includes_its_start_and_not_its_end():
    span = TimeRange(10, 20)
    assert 10 in span
    assert 19 in span
    assert 20 not in span
    assert 9 not in span


def test_a_range_may_be_empty_but_not_reversed():
    assert 10 not in TimeRange(10, 10)
    with pytest.raises(InvalidTimeRange, match="11 to 10 ends before it starts"):
        TimeRange(11, 10)


def test_a_range_reads_as_two_times():
    assert str(TimeRange(0, HOUR)) == "1970-01-01T00:00Z to 1970-01-01T01:00Z"


ranges = st.tuples(INSTANTS, INSTANTS).map(lambda pair: TimeRange(min(pair), max(pair)))


@given(ranges, ranges, INSTANTS)
def test_an_intersection_holds_what_both_hold(one, other, time):
    common = one.intersect(other)
    assert (time in common) == (time in one and time in other)
    for edge in (common.start, common.end - 1):
        assert (edge in common) == (edge in one and edge in other)


def test_candle_starts_are_those_that_open_within_the_range():
    starts = TimeRange(HOUR - 1, 3 * HOUR).candle_starts(Interval.HOUR_1)
    assert list(starts) == [HOUR, 2 * HOUR]
    assert list(TimeRange(HOUR, HOUR + 1).candle_starts(Interval.HOUR_1)) == [HOUR]
    assert list(TimeRange(HOUR + 1, 2 * HOUR).candle_starts(Interval.HOUR_1)) == []


@pytest.mark.parametrize("key", ["2024-06", "1970-01", "2024-12"])
def test_a_month_is_written_as_it_is_read(key):
    assert str(Month.parse(key)) == key


@pytest.mark.parametrize(
    "key", ["2024-6", "2024-13", "2024-00", "0000-01", "24-06", "2024-06-01", "", " 2024-06", None]
)
def test_a_malformed_month_is_refused_by_name(key):
    with pytest.raises(InvalidTimeRange, match=r"month .* is malformed: expected YYYY-MM"):
        Month.parse(key)


@pytest.mark.parametrize(
    ("key", "days"), [("2024-02", 29), ("2023-02", 28), ("2024-12", 31), ("2024-06", 30)]
)
def test_a_month_has_all_its_days(key, days):
    assert len(Month.parse(key).time_range.candle_starts(Interval.DAY_1)) == days


@given(INSTANTS)
def test_an_instant_lies_in_its_month(time):
    assert time in Month.containing(time).time_range


@given(MONTHS)
def test_a_month_is_that_of_its_first_and_last_instant(month):
    span = month.time_range
    assert Month.containing(span.start) == month
    assert Month.containing(span.end - 1) == month
    assert Month.containing(span.end) == month.shift(1)


@given(MONTHS, st.integers(-500, 500))
def test_a_shift_and_its_inverse_cancel(month, months):
    assert month.shift(months).shift(-months) == month


@given(MONTHS, st.integers(0, 40))
def test_a_range_of_months_has_no_hole_and_includes_both_ends(first, months):
    last = first.shift(months)
    found = list(month_range(first, last))
    assert (found[0], found[-1], len(found)) == (first, last, months + 1)
    for month, following in pairwise(found):
        assert month.time_range.end == following.time_range.start


def test_a_reversed_range_of_months_is_refused():
    with pytest.raises(InvalidTimeRange, match="2024-06 to 2024-05 ends before it starts"):
        list(month_range(Month(2024, 6), Month(2024, 5)))
