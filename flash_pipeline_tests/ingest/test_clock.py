"""A clock that jumps stores no forming candle, records no false gap and loses nothing."""

import pytest

from flash_pipeline.errors import InconsistentAnswer, InvalidTimeRange
from flash_pipeline.ingest.clock import SourceClock
from flash_pipeline.ingest.ledger import GAPS_TABLE
from flash_pipeline.market import CANDLE_SCHEMA, CandleAnswer, Interval, Month, parse_instant

HOUR = 3_600_000
NOW = parse_instant("2024-06-20T10:30Z")


class Clock:
    def __init__(self, *readings):
        self.readings, self.read = list(readings), 0

    def now(self):
        self.read += 1
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


def test_the_earlier_of_clock_and_answer_decides():
    clock = SourceClock(Clock(NOW), Interval.HOUR_1)
    assert clock.closed_by(NOW + 40 * 60_000) == parse_instant("2024-06-20T10:00Z")
    assert clock.closed_by(NOW - 40 * 60_000) == parse_instant("2024-06-20T09:00Z")


def test_a_small_difference_has_the_clock_read_no_more_than_once():
    source = Clock(NOW)
    clock = SourceClock(source, Interval.HOUR_1)
    for minutes in (-59, -1, 0, 1, 59):
        clock.closed_by(NOW + minutes * 60_000)
    assert source.read == 1
    assert not clock.moved_on


def test_a_reading_that_was_ahead_is_put_right():
    clock = SourceClock(Clock(NOW + 72 * HOUR, NOW), Interval.HOUR_1)
    assert clock.closed_by(NOW) == clock.closed_end == parse_instant("2024-06-20T10:00Z")
    assert not clock.moved_on


def test_a_reading_that_was_behind_is_found_out():
    clock = SourceClock(Clock(NOW - 72 * HOUR, NOW), Interval.HOUR_1)
    assert clock.closed_by(NOW) == parse_instant("2024-06-17T10:00Z")
    assert clock.moved_on
    assert clock.open_from == parse_instant("2024-06-20T10:00Z")


def test_one_answer_that_jumps_moves_nothing():
    clock = SourceClock(Clock(NOW), Interval.HOUR_1)
    assert clock.closed_by(NOW + 72 * HOUR) == parse_instant("2024-06-20T10:00Z")
    assert clock.closed_by(NOW - 72 * HOUR) == parse_instant("2024-06-17T10:00Z")
    assert clock.closed_by(NOW) == parse_instant("2024-06-20T10:00Z")
    assert not clock.moved_on


@pytest.fixture
def source(market, series):
    """A market that makes up the rest: what it answers of the future is forming."""
    return market(BTCUSDT=series("2024-06-01", 24 * 30))


@pytest.fixture
def check(source, store, ledger, refresh):
    """Refresh at 10:30 on the 20th, and see that everything is stored but the forming candle."""

    def check():
        done, _ = refresh(source, "2024-06-20T10:30Z", "2024-06", ledger=ledger)
        assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 19 * 24 + 10))
        assert ledger.read(GAPS_TABLE).num_rows == 0
        assert done.missing == 0

    return check


@pytest.mark.parametrize("hours", [-72, -2, 2, 72])
def test_a_first_reading_that_jumped(source, check, hours):
    source.clock = [NOW + hours * HOUR]
    check()


@pytest.mark.parametrize("minutes", [-45, 31])
def test_a_first_reading_that_is_off_by_less_than_an_interval(source, store, refresh, minutes):
    source.clock = [NOW + minutes * 60_000]
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    held = store.read_all("BTCUSDT")
    assert held.equals(source.truth["BTCUSDT"].slice(0, held.num_rows))
    assert held.num_rows == 19 * 24 + (9 if minutes < 0 else 10)


@pytest.mark.parametrize("hours", [-72, 72])
@pytest.mark.parametrize("answer_at", [0, 1])
def test_one_answer_by_a_clock_that_jumped(source, check, hours, answer_at):
    source.truth = {"BTCUSDT": source.truth["BTCUSDT"]}
    answers = iter(range(99))
    source.most_candles = 300

    def distort(asked, answer):
        if next(answers) != answer_at:
            return answer
        source.now_ms += hours * HOUR
        try:
            # What a server answers whose clock has jumped: its forming candle is 72 hours off.
            return source_answer(source, asked)
        finally:
            source.now_ms -= hours * HOUR

    source.distort = distort
    check()


def source_answer(source, asked):
    distort, source.distort = source.distort, lambda _, answer: answer
    try:
        return source.candles(asked.symbol, asked.interval, asked.window)
    finally:
        source.distort = distort


def test_a_first_reading_of_an_earlier_month_is_read_again(source, check):
    source.clock = [NOW - 40 * 24 * HOUR]
    check()


def test_a_month_that_has_not_begun_by_two_readings_is_refused(source, refresh):
    with pytest.raises(InvalidTimeRange, match="2024-07 has not begun"):
        refresh(source, "2024-06-20T10:30Z", "2024-07")


def test_a_clock_that_went_back_removes_no_closed_candle(source, store, refresh):
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    before = store.read_all("BTCUSDT")
    source.clock = [NOW - 72 * HOUR]
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    assert store.read_all("BTCUSDT").equals(before)


@pytest.mark.parametrize("back", ["2024-06-20T06:30Z", "2024-06-03T00:30Z"])
def test_a_source_whose_clock_is_behind_what_is_stored_removes_nothing(
    source, store, refresh, files, back
):
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    before = files()
    with pytest.raises(InconsistentAnswer, match="are stored up to 2024-06-20T09:00Z"):
        refresh(source, back, "2024-06")
    assert files() == before


def test_a_source_whose_clock_is_behind_the_stored_months_is_refused(source, refresh, files):
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    source.truth["BTCUSDT"] = source.truth["BTCUSDT"].slice(0, 0)
    before = files()
    with pytest.raises(InconsistentAnswer, match="clock of fake is at 2024-05-20T10:30Z"):
        refresh(source, "2024-05-20T10:30Z", "2024-05")
    assert files() == before


def test_a_refresh_that_takes_longer_than_an_interval_goes_on(source, store, refresh):
    """The clock runs on by two hours at every answer."""

    def distort(asked, answer):
        source.now_ms += 2 * HOUR
        return CandleAnswer(answer.candles, source.now_ms)

    source.distort = distort
    done, _ = refresh(source, "2024-06-20T10:30Z", "2024-06")
    held = store.read_all("BTCUSDT")
    assert held.equals(source.truth["BTCUSDT"].slice(0, held.num_rows))
    assert held.num_rows > 19 * 24 + 10
    assert done.now < source.now_ms


def test_a_forming_candle_in_an_answer_is_left_out(source, check):
    """A source that does not keep to its contract."""
    whole = source.truth["BTCUSDT"]

    def distort(asked, answer):
        rows = whole.filter(
            (whole["start_time"].to_numpy() >= asked.window.start)
            & (whole["start_time"].to_numpy() < asked.window.end + HOUR)
        )
        return CandleAnswer(rows, answer.as_of)

    source.distort = distort
    check()


def test_the_schema_is_the_contracts(source, store, refresh):
    refresh(source, "2024-06-20T10:30Z", "2024-06")
    assert store.read_month("BTCUSDT", Month(2024, 6)).schema.equals(CANDLE_SCHEMA)
