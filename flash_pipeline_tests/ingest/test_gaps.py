"""How gaps on record become those of today."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_pipeline.ingest.gaps import Gap, GapCause, MissingRun, explain, reconcile
from flash_pipeline.market import Interval, TimeRange

HOUR = 3_600_000
GAP, LISTING = GapCause.EXCHANGE_GAP, GapCause.BEFORE_LISTING
NOW = 1000


def recorded(first, last, cause=GAP, found=1, checked=5):
    return Gap(first * HOUR, last * HOUR, cause, found, checked)


def missing(first, last, cause=GAP):
    return MissingRun(first * HOUR, last * HOUR, cause)


def after(gaps, runs, checked=(0, 100)):
    """Reconcile by hours, and give (first, last, found, checked, filled) of each gap."""
    span = TimeRange(checked[0] * HOUR, checked[1] * HOUR)
    return [
        (g.first_start // HOUR, g.last_start // HOUR, g.found_at, g.checked_at, g.filled_at)
        for g in reconcile(gaps, runs, span, Interval.HOUR_1, NOW)
    ]


def test_a_new_gap_is_found_now():
    assert after([], [missing(3, 4)]) == [(3, 4, NOW, NOW, None)]


def test_a_gap_that_is_still_missing_keeps_the_time_it_was_found():
    assert after([recorded(3, 4)], [missing(3, 4)]) == [(3, 4, 1, NOW, None)]


def test_a_gap_that_has_come_is_filled_now():
    assert after([recorded(3, 4)], []) == [(3, 4, 1, NOW, NOW)]


def test_of_a_gap_that_has_come_in_part_the_rest_stays_open():
    assert after([recorded(3, 9)], [missing(3, 4), missing(7, 9)]) == [
        (3, 4, 1, NOW, None),
        (5, 6, 1, NOW, NOW),
        (7, 9, 1, NOW, None),
    ]


def test_a_gap_grows_and_keeps_the_time_it_was_found():
    assert after([recorded(3, 4)], [missing(3, 6)]) == [(3, 6, 1, NOW, None)]


def test_gaps_grow_together_and_the_older_time_is_kept():
    gaps = [recorded(3, 4, found=7), recorded(6, 7, found=2)]
    assert after(gaps, [missing(3, 7)]) == [(3, 7, 2, NOW, None)]


def test_outside_what_was_read_a_gap_stays_as_it_is():
    assert after([recorded(200, 210)], []) == [(200, 210, 1, 5, None)]


def test_a_gap_that_reaches_beyond_what_was_read_is_filled_within_it_only():
    assert after([recorded(90, 110)], []) == [(90, 99, 1, NOW, NOW), (100, 110, 1, 5, None)]


def test_a_gap_across_the_end_of_what_was_read_stays_one():
    assert after([recorded(90, 110)], [missing(90, 99)]) == [(90, 110, 1, NOW, None)]


def test_neighbours_of_two_causes_stay_two():
    found = after([], [missing(3, 4, LISTING), missing(5, 6)])
    assert found == [(3, 4, NOW, NOW, None), (5, 6, NOW, NOW, None)]


HOURS = st.sets(st.integers(0, 60), max_size=30)


def runs_of(hours):
    starts = sorted(h for h in hours if h - 1 not in hours)
    return [(a, next(b for b in range(a, 99) if b + 1 not in hours)) for a in starts]


def covered(gaps):
    return [h for a, b, *_ in gaps for h in range(a, b + 1)]


@given(before=HOURS, now=HOURS, span=st.tuples(st.integers(0, 30), st.integers(31, 61)))
def test_open_gaps_are_what_is_missing_and_filled_ones_what_came(before, now, span):
    inside = set(range(*span))
    now = now & inside
    gaps = after([recorded(*r) for r in runs_of(before)], [missing(*r) for r in runs_of(now)], span)
    is_open = [gap for gap in gaps if gap[-1] is None]
    filled = [gap for gap in gaps if gap[-1] is not None]
    assert sorted(covered(is_open)) == sorted(now | (before - inside))
    assert sorted(covered(filled)) == sorted((before & inside) - now)
    assert [gap[:2] for gap in is_open] == runs_of(now | (before - inside))  # as long as can be


@given(before=HOURS, now=HOURS)
def test_the_same_refresh_again_changes_nothing(before, now):
    first = reconcile(
        [recorded(*r) for r in runs_of(before)],
        [missing(*r) for r in runs_of(now)],
        TimeRange(0, 61 * HOUR),
        Interval.HOUR_1,
        NOW,
    )
    still = [gap for gap in first if gap.filled_at is None]
    again = reconcile(
        still, [missing(*r) for r in runs_of(now)], TimeRange(0, 61 * HOUR), Interval.HOUR_1, NOW
    )
    assert again == still


@pytest.mark.parametrize(
    ("before", "after", "known", "gone", "cause"),
    [
        (True, True, (), False, GapCause.EXCHANGE_GAP),
        (False, True, (), False, GapCause.BEFORE_LISTING),
        (True, False, (), False, GapCause.EXCHANGE_GAP),
        (True, False, (), True, GapCause.DELISTED),
        (False, False, (), True, GapCause.DELISTED),
        (False, False, (), False, GapCause.BEFORE_LISTING),
        (False, False, (GapCause.BEFORE_LISTING,), True, GapCause.BEFORE_LISTING),
    ],
)
def test_the_cause_follows_from_the_candles_around(before, after, known, gone, cause):
    found = explain(before=before, after=after, known=known, trades_no_more=lambda: gone)
    assert found is cause


def test_a_symbol_known_to_be_delisted_is_not_asked_about_again():
    def ask():
        raise AssertionError("asked")

    known = {GapCause.DELISTED}
    found = explain(before=True, after=False, known=known, trades_no_more=ask)
    assert found is GapCause.DELISTED
