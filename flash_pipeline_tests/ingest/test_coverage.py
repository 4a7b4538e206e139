"""Which month of a symbol is the first that lacks candles."""

import pytest

from flash_pipeline.ingest import Gap, GapCause, first_lacking
from flash_pipeline.ingest.merge import within
from flash_pipeline.market import Month, month_range

HOUR = 3_600_000
MONTHS = list(month_range(Month(2024, 4), Month(2024, 6)))
APRIL, MAY, JUNE = MONTHS


@pytest.fixture
def lacking(store, series):
    """Store three months less some hours, counted from April on, and look."""

    def lacking(absent, *gaps):
        candles = series("2024-04-01", 91 * 24, absent=absent)
        for month in MONTHS:
            rows = within(candles, month.time_range)
            if rows.num_rows:
                store.write_month("BTCUSDT", month, rows, synthetic=False)
        return first_lacking(store, "BTCUSDT", gaps, MONTHS)

    return lacking


def gap(first, last, cause=GapCause.EXCHANGE_GAP):
    start = APRIL.time_range.start
    return Gap(start + first * HOUR, start + last * HOUR, cause, 0, 0)


def test_whole_months_lack_nothing(lacking):
    assert lacking([]) is None


@pytest.mark.parametrize(("hour", "month"), [(0, APRIL), (719, APRIL), (720, MAY), (2183, JUNE)])
def test_one_candle_that_is_not_on_record_counts(lacking, hour, month):
    assert lacking([hour]) == month
    assert lacking([hour], gap(hour, hour)) is None


def test_a_month_without_a_file_lacks_candles_unless_they_are_on_record(lacking):
    assert lacking(range(720, 720 + 744)) == MAY


def test_what_came_before_the_listing_is_on_record(lacking):
    assert lacking(range(1000), gap(0, 999, GapCause.BEFORE_LISTING)) is None


def test_after_a_delisting_nothing_is_expected(lacking):
    assert lacking(range(1000, 2184), gap(1000, 1001, GapCause.DELISTED)) is None
    assert lacking(range(1000, 2184), gap(1000, 1001)) == MAY
