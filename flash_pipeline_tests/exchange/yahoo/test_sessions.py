from datetime import date

import pytest

from flash_pipeline.exchange.yahoo.sessions import (
    NewYork,
    RoundTheClock,
    Session,
    newest_session,
    offset_s,
    sessions_between,
)
from flash_pipeline.market import parse_instant


def _session(start, end):
    return Session(parse_instant(start), parse_instant(end))


@pytest.mark.parametrize(
    ("day", "start", "end"),
    [
        (date(2024, 6, 28), "2024-06-28T13:30Z", "2024-06-28T20:00Z"),
        (date(2024, 3, 8), "2024-03-08T14:30Z", "2024-03-08T21:00Z"),
        (date(2024, 3, 11), "2024-03-11T13:30Z", "2024-03-11T20:00Z"),
    ],
)
def test_new_york_keeps_its_local_hours_over_the_change_of_clocks(day, start, end):
    assert NewYork().session(day) == _session(start, end)


@pytest.mark.parametrize("day", [date(2024, 6, 29), date(2024, 6, 30), date(2024, 7, 4)])
def test_new_york_is_closed_at_weekends_and_on_holidays(day):
    assert NewYork().session(day) is None


def test_coins_trade_from_midnight_to_midnight():
    (day,) = sessions_between(
        RoundTheClock(), parse_instant("2024-06-29T05:00Z"), parse_instant("2024-06-29T06:00Z")
    )
    assert day == _session("2024-06-29", "2024-06-30")


def test_sessions_of_a_week_are_five():
    week = sessions_between(NewYork(), parse_instant("2024-06-10"), parse_instant("2024-06-17"))
    assert len(list(week)) == 5


def test_a_session_that_only_touches_the_range_is_left_out():
    friday_close = parse_instant("2024-06-28T20:00Z")
    assert not list(sessions_between(NewYork(), friday_close, parse_instant("2024-07-01T13:30Z")))


@pytest.mark.parametrize("now", ["2024-06-28T18:00Z", "2024-06-30T12:00Z", "2024-07-01T13:29Z"])
def test_the_newest_session_is_the_one_under_way_or_the_one_before(now):
    newest = newest_session(NewYork(), parse_instant(now))
    assert newest == _session("2024-06-28T13:30Z", "2024-06-28T20:00Z")


def test_the_offset_is_that_of_the_instant():
    assert offset_s(NewYork(), parse_instant("2024-06-28")) == -4 * 3600
    assert offset_s(NewYork(), parse_instant("2024-01-28")) == -5 * 3600
