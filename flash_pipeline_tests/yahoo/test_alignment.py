"""Every candle says by its start when it is known: at its end, never before a bar closed."""

import pytest

from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import CANDLE_SCHEMA, Interval, iso_utc, parse_instant
from flash_pipeline.yahoo.alignment import align
from flash_pipeline.yahoo.chart import read_chart

HOUR, DAY = Interval.HOUR_1, Interval.DAY_1
LATER = "2026-01-01"
SYDNEY = {"zone": "Australia/Sydney", "session": ("2024-06-03T00:00", "2024-06-03T06:00", 36000)}
TOKYO = {"zone": "Asia/Tokyo", "session": ("2024-06-03T00:00", "2024-06-03T06:00", 32400)}
LONDON_FX = {
    "zone": "Europe/London",
    "session": ("2024-06-02T23:00", "2024-06-03T22:59", 3600),
}
FUTURES = {"session": ("2024-06-03T04:00", "2024-06-04T03:59", -14400)}
COINS = {"zone": "UTC", "session": ("2024-06-03T00:00", "2024-06-03T23:59", 0)}


@pytest.fixture
def aligned(chart, answer):
    """Align a chart, and give its candles by their starts."""

    def aligned(interval, *arguments, as_of=LATER, **options):
        granularity = {HOUR: "1h", DAY: "1d"}[interval]
        body = chart(*arguments, granularity=granularity, **options)
        read = read_chart(answer(body), "AAPL", "AAPL", granularity)
        table = align(read, interval, parse_instant(as_of), "AAPL")
        assert table.schema.equals(CANDLE_SCHEMA)
        return {iso_utc(row.pop("start_time"))[:-1]: row for row in table.to_pylist()}

    return aligned


def test_an_hour_of_new_york_is_the_candle_that_contains_its_close(aligned):
    candles = aligned(HOUR, ["2024-06-03T13:30", "2024-06-03T14:30"])
    assert list(candles) == ["2024-06-03T14:00", "2024-06-03T15:00"]


def test_the_short_last_bar_of_a_session_has_a_candle_of_its_own(aligned):
    candles = aligned(HOUR, ["2024-06-03T18:30", "2024-06-03T19:30"])
    assert list(candles) == ["2024-06-03T19:00", "2024-06-03T20:00"]


def test_a_session_of_today_that_ends_early_lets_no_past_bar_come_sooner(aligned):
    half_day = ("2024-07-03T13:30", "2024-07-03T17:00", -14400)
    candles = aligned(HOUR, ["2024-06-03T16:30"], session=half_day)
    assert list(candles) == ["2024-06-03T17:00"]


def test_an_hour_that_is_on_the_grid_stays_where_it_is(aligned):
    candles = aligned(HOUR, ["2024-06-03T13:00", "2024-06-03T14:00"], **COINS)
    assert list(candles) == ["2024-06-03T13:00", "2024-06-03T14:00"]


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_no_hour_is_known_before_it_closed(aligned, minute):
    opened = f"2024-06-03T13:{minute:02d}"
    (start,) = aligned(HOUR, [opened])
    known = parse_instant(start) + HOUR.milliseconds
    closed = parse_instant(opened) + HOUR.milliseconds
    assert 0 <= known - closed < HOUR.milliseconds


@pytest.mark.parametrize(
    ("opened", "market", "day"),
    [
        ("2024-06-03T13:30", {}, "2024-06-03"),  # New York
        ("2024-06-03T00:00", TOKYO, "2024-06-03"),
        ("2024-06-03T00:00", SYDNEY, "2024-06-03"),  # winter there
        ("2024-01-08T23:00", SYDNEY, "2024-01-09"),  # summer: opens on the day before, UTC
        ("2024-06-02T23:00", LONDON_FX, "2024-06-03"),
        ("2024-06-03T04:00", FUTURES, "2024-06-04"),  # closes at 03:59 UTC of the next day
        ("2024-06-03T00:00", COINS, "2024-06-03"),
    ],
)
def test_a_day_is_the_utc_day_in_which_its_session_closes(aligned, opened, market, day):
    assert list(aligned(DAY, [opened], **market)) == [f"{day}T00:00"]


def test_daylight_saving_time_is_that_of_the_date_not_of_today(aligned):
    """A session to 19:30 in New York ends at 23:30 UTC in summer, at 0:30 of the next in winter."""
    evening = ("2024-06-03T13:30", "2024-06-03T23:30", -14400)
    candles = aligned(DAY, ["2024-06-03T13:30", "2024-12-03T14:30"], session=evening)
    assert list(candles) == ["2024-06-03T00:00", "2024-12-04T00:00"]


@pytest.mark.parametrize("session", [None, ("2024-06-03T13:30", "2024-06-03T13:30", -14400)])
def test_without_a_session_a_day_ends_with_its_local_date(aligned, session):
    assert list(aligned(DAY, ["2024-06-03T13:30"], session=session)) == ["2024-06-04T00:00"]


def test_bars_that_close_within_one_candle_become_one(aligned):
    """The evenings before and on the day on which the clocks go forward."""
    evening = ("2024-06-03T13:30", "2024-06-03T23:30", -14400)
    bars = [(10.0, 14.0, 9.0, 11.0, 5.0), (11.5, 12.0, 7.0, 8.0, 2.0)]
    opens = ["2024-03-09T14:30", "2024-03-10T13:30"]
    (candle,) = aligned(DAY, opens, bars, session=evening).values()
    assert candle == {
        "open": 10.0,
        "high": 14.0,
        "low": 7.0,
        "close": 8.0,
        "volume": 7.0,
        "turnover": None,
    }


def test_two_bars_of_one_session_are_an_error_that_names_them(aligned):
    with pytest.raises(InconsistentAnswer, match="bars of 2024-06-03T13:30Z and 2024-06-03T15:30Z"):
        aligned(DAY, ["2024-06-03T13:30", "2024-06-03T15:30"])


@pytest.mark.parametrize("column", range(5))
def test_a_bar_with_a_null_is_absent(aligned, bar, column):
    lost = tuple(None if n == column else value for n, value in enumerate(bar(100.0)))
    candles = aligned(HOUR, ["2024-06-03T13:30", "2024-06-03T14:30"], [lost, bar(101.0)])
    assert list(candles) == ["2024-06-03T15:00"]


@pytest.mark.parametrize(
    "bad",
    [
        (0.0, 102.0, 0.0, 101.0, 1.0),
        (-1.0, 1.0, -2.0, 1.0, 1.0),
        (100.0, 99.0, 98.0, 98.5, 1.0),
        (100.0, 102.0, 101.0, 101.5, 1.0),
        (100.0, 102.0, 98.0, 101.0, -1.0),
    ],
)
def test_a_bar_that_is_no_candle_is_absent(aligned, bar, bad):
    candles = aligned(HOUR, ["2024-06-03T13:30", "2024-06-03T14:30"], [bad, bar(101.0)])
    assert list(candles) == ["2024-06-03T15:00"]


@pytest.mark.parametrize("kind", ["CRYPTOCURRENCY", "CURRENCY"])
def test_a_volume_in_the_quote_currency_is_the_turnover(aligned, kind):
    bars = [(10.0, 14.0, 8.0, 12.0, 550.0)]
    (candle,) = aligned(HOUR, ["2024-06-03T13:00"], bars, instrumentType=kind).values()
    assert (candle["volume"], candle["turnover"]) == (550.0 / 11.0, 550.0)


@pytest.mark.parametrize("kind", ["EQUITY", "INDEX", "ETF", "FUTURE", ""])
def test_a_volume_of_shares_stays_what_it_is(aligned, kind):
    bars = [(10.0, 14.0, 8.0, 12.0, 550.0)]
    (candle,) = aligned(HOUR, ["2024-06-03T13:00"], bars, instrumentType=kind).values()
    assert (candle["volume"], candle["turnover"]) == (550.0, None)


def test_turnover_is_null_and_adjusted_closes_are_not_looked_at(aligned, bar):
    (candle,) = aligned(HOUR, ["2024-06-03T13:30"]).values()
    assert tuple(candle.values()) == (*bar(100.0), None)


def test_a_candle_is_let_through_when_it_is_over(aligned):
    opens = ["2024-06-03T13:30", "2024-06-03T14:30"]
    assert list(aligned(HOUR, opens, as_of="2024-06-03T15:59:59")) == ["2024-06-03T14:00"]
    assert len(aligned(HOUR, opens, as_of="2024-06-03T16:00")) == 2


def test_delayed_numbers_wait_until_they_are_in(aligned):
    opens, trade = ["2024-06-03T13:00"], {"last_trade": "2024-06-03T13:45"}
    assert not aligned(HOUR, opens, as_of="2024-06-03T14:02", **trade)
    assert not aligned(HOUR, opens, as_of="2024-06-03T14:29:59", **trade)
    assert aligned(HOUR, opens, as_of="2024-06-03T14:30", **trade)


def test_a_later_trade_says_that_a_bar_is_complete(aligned):
    trade = {"last_trade": "2024-06-03T14:00"}
    assert aligned(HOUR, ["2024-06-03T13:00"], as_of="2024-06-03T14:02", **trade)


@pytest.mark.parametrize(
    "opens",
    [
        ["2024-06-03T13:30", "2024-06-03T14:30", "2024-06-03T14:47:12"],
        ["2024-06-03T18:30", "2024-06-03T19:30", "2024-06-03T20:00:01"],
    ],
)
def test_the_last_trade_is_no_bar(aligned, bar, opens):
    bars = [bar(100.0), bar(101.0), (500.0, 500.0, 500.0, 500.0, 0)]
    candles = aligned(HOUR, opens, bars, last_trade=opens[-1])
    assert max(candle["high"] for candle in candles.values()) < 500


def test_the_last_trade_beside_a_daily_bar_is_no_bar(aligned, bar):
    opens = ["2024-06-03T13:30", "2024-06-03T20:00:02"]
    candles = aligned(DAY, opens, [bar(100.0), bar(100.5)], last_trade=opens[1])
    assert [candle["open"] for candle in candles.values()] == [100.0]


def test_a_days_bar_that_is_stamped_with_its_last_trade_is_that_days(aligned):
    opens = ["2024-05-31T13:30", "2024-06-03T20:00:02"]
    assert list(aligned(DAY, opens, last_trade=opens[1])) == [
        "2024-05-31T00:00",
        "2024-06-03T00:00",
    ]


def test_a_bar_that_opened_with_the_last_trade_of_a_thin_market_is_one(aligned):
    opens = ["2024-06-03T13:30", "2024-06-03T14:30"]
    assert len(aligned(HOUR, opens, last_trade=opens[-1])) == 2


def test_bars_before_1970_are_bars(aligned):
    assert list(aligned(DAY, ["1962-01-02T14:30"])) == ["1962-01-02T00:00"]


def test_no_rows_are_no_candles(aligned):
    assert aligned(HOUR, []) == {}
