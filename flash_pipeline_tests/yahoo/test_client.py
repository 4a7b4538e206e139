from urllib.parse import parse_qs, urlsplit

import pytest

from flash_pipeline.errors import (
    InconsistentAnswer,
    InvalidInput,
    MalformedAnswer,
    RateLimited,
    SourceUnsupported,
    UnknownSymbol,
)
from flash_pipeline.market import Interval, MarketSource, TimeRange, iso_utc, parse_instant
from flash_pipeline.yahoo import YahooClient
from flash_pipeline_tests.yahoo.conftest import TICKERS, seconds

HOUR, DAY = Interval.HOUR_1, Interval.DAY_1
OPENS = [f"2024-06-03T{hour}:30" for hour in range(13, 20)]


def window(first, end):
    return TimeRange(parse_instant(first), parse_instant(end))


MONDAY = window("2024-06-03", "2024-06-04")


def asked(script, number=-1):
    parts = urlsplit(script.asked[number].url)
    return parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}


def starts(answer):
    return [iso_utc(each)[:-1] for each in answer.candles["start_time"].to_pylist()]


def test_it_is_a_source_of_markets_that_close(scripted):
    source: MarketSource = scripted({})[0]
    assert (source.name, source.continuous, source.most_candles) == ("yahoo", False, 20_000)


def test_a_session_becomes_the_candles_of_its_hours(scripted, chart):
    client, _ = scripted(chart(OPENS))
    assert starts(client.candles("AAPL", HOUR, MONDAY)) == [
        f"2024-06-03T{hour}:00" for hour in range(14, 21)
    ]


def test_the_chart_is_asked_for_with_room_for_bars_that_open_before_their_candle(scripted, chart):
    client, script = scripted(chart([], ticker="^GSPC"))
    client.candles("SPX", HOUR, MONDAY)
    path, query = asked(script)
    assert path == "/v8/finance/chart/%5EGSPC"
    assert query == {
        "period1": str(seconds("2024-06-02T23:00")),
        "period2": str(seconds("2024-06-04")),
        "interval": "1h",
        "includePrePost": "false",
    }


def test_it_calls_itself_what_yahoo_answers():
    with YahooClient(["https://yahoo.test"], TICKERS) as client:
        assert client._transport._session.headers["User-Agent"].startswith("Mozilla/")


def test_rows_around_the_window_are_left_out(scripted, chart):
    client, _ = scripted(chart(["2024-05-31T19:30", *OPENS, "2024-06-04T13:30"]))
    inner = window("2024-06-03T15:00", "2024-06-03T17:00")
    assert starts(client.candles("AAPL", HOUR, inner)) == ["2024-06-03T15:00", "2024-06-03T16:00"]


def test_the_clock_is_the_date_of_an_answer(scripted, chart):
    client, _ = scripted(chart([]), clock="2024-06-03T16:10:07")
    assert client.now() == parse_instant("2024-06-03T16:10:07")
    answer = client.candles("AAPL", HOUR, MONDAY)
    assert answer.as_of == parse_instant("2024-06-03T16:10:07")


def test_a_bar_that_still_forms_is_left_out(scripted, chart):
    client, _ = scripted(chart(OPENS[:4]), clock="2024-06-03T16:45")
    assert starts(client.candles("AAPL", HOUR, MONDAY)) == ["2024-06-03T14:00", "2024-06-03T15:00"]


def test_an_answer_whose_clock_has_jumped_ahead_lets_nothing_through_early(scripted, chart):
    client, script = scripted(chart(OPENS[:4]), clock="2024-06-03T16:45")
    client.now()
    script.clock = "2024-06-03T23:45"
    answer = client.candles("AAPL", HOUR, MONDAY)
    assert len(starts(answer)) == 2
    assert answer.as_of == parse_instant("2024-06-03T16:45")


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Jun 2024 00:00:00 GMT"])
def test_an_answer_without_a_time_is_malformed(scripted, chart, date):
    client, script = scripted(chart(OPENS))
    script.headers["Date"] = date
    with pytest.raises(MalformedAnswer, match="Date is "):
        client.now()


def test_the_clock_is_not_that_of_a_proxys_page(scripted, chart):
    page = b"<html>Bad Request</html>"
    client, script = scripted((400, page), chart([]))
    client.now()
    assert len(script.asked) == 2


def test_a_span_without_data_is_no_candles(scripted, failure):
    why = "Data doesn't exist for startDate = 1, endDate = 2"
    client, _ = scripted((400, failure("Bad Request", why)))
    assert starts(client.candles("AAPL", DAY, MONDAY)) == []


def test_too_many_requests_are_tried_again(scripted, chart):
    client, script = scripted((429, b"Too Many Requests"), chart(OPENS))
    assert len(starts(client.candles("AAPL", HOUR, MONDAY))) == 7
    assert len(script.asked) == 3  # the clock, which the first answer refused, and the chart


def test_a_rate_that_stays_limited_is_an_error(scripted):
    client, _ = scripted((429, b"Too Many Requests"))
    with pytest.raises(RateLimited):
        client.candles("AAPL", DAY, MONDAY)


def test_an_unknown_ticker_is_not_tried_again(scripted, failure):
    body = failure("Not Found", "No data found, symbol may be delisted")
    client, script = scripted((404, body))
    with pytest.raises(UnknownSymbol):
        client.candles("AAPL", DAY, MONDAY)
    assert len(script.asked) == 1


def test_the_clock_needs_no_ticker_that_yahoo_knows(scripted, failure):
    client, _ = scripted((404, failure("Not Found", "No data found")))
    assert client.now() == parse_instant("2024-06-04T12:00")


def test_a_symbol_without_a_ticker_names_the_setting(scripted):
    with pytest.raises(SourceUnsupported, match=r"'ETHUSDT'.*FLASH_PIPELINE_YAHOO"):
        scripted({})[0].candles("ETHUSDT", HOUR, MONDAY)


@pytest.mark.parametrize("interval", [each for each in Interval if each not in (HOUR, DAY)])
def test_intervals_but_hours_and_days_are_refused(scripted, interval):
    client, script = scripted({})
    with pytest.raises(SourceUnsupported, match="Yahoo has 60 and D"):
        client.candles("AAPL", interval, MONDAY)
    assert script.asked == []


def test_hours_of_more_than_730_days_ago_are_refused_with_the_first_that_can_be_had(
    scripted, chart
):
    client, _ = scripted(chart([]), clock="2026-06-03T12:00")
    with pytest.raises(SourceUnsupported, match=r"730 days, from 2024-06-03T14:00Z on") as caught:
        client.candles("AAPL", HOUR, MONDAY)
    assert isinstance(caught.value, InvalidInput)
    client.candles("AAPL", HOUR, window("2024-06-03T14:00", "2024-06-04"))


def test_days_go_back_by_decades_in_one_request(scripted, chart):
    client, script = scripted(chart(["1990-01-02T14:30"], granularity="1d"))
    answer = client.candles("AAPL", DAY, window("1975-01-01", "2024-06-04"))
    assert starts(answer) == ["1990-01-02T00:00"]
    assert len(script.asked) == 1


@pytest.mark.parametrize("end", ["2024-06-03", "2500-01-01"])
def test_a_window_wider_than_an_answer_or_empty_is_refused(scripted, end):
    with pytest.raises(ValueError, match="expected 1 to 20000"):
        scripted({})[0].candles("AAPL", DAY, window("2024-06-03", end))


@pytest.mark.parametrize(("kind", "synthetic"), [("simulated", True), ("replay", False)])
def test_the_embedded_exchange_says_what_it_serves(scripted, chart, kind, synthetic):
    client, script = scripted(chart([]))
    script.headers["X-Flash-Pipeline-Market"] = kind
    assert client.is_synthetic() is synthetic


def test_yahoo_itself_is_not_synthetic(scripted, chart):
    assert scripted(chart([]))[0].is_synthetic() is False


def test_another_market_behind_the_same_name_is_refused(scripted, chart):
    client, script = scripted(chart([]))
    client.now()
    script.headers["X-Flash-Pipeline-Market"] = "simulated"
    with pytest.raises(InconsistentAnswer, match="'simulated' market, Yahoo was 'live'"):
        client.now()


def test_nothing_is_known_to_be_delisted(scripted):
    assert scripted({})[0].delisted(["AAPL", "SPX"]) == frozenset()


def test_a_client_without_tickers_is_refused():
    with pytest.raises(ValueError, match="no ticker given"):
        YahooClient(["https://yahoo.test"], {})
