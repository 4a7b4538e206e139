import json

import numpy as np
import pytest

from flash_pipeline.errors import (
    AccessDenied,
    ExchangeFault,
    InconsistentAnswer,
    MalformedAnswer,
    RateLimited,
    RequestRejected,
    UnknownSymbol,
)
from flash_pipeline.yahoo.chart import read_chart
from flash_pipeline_tests.yahoo.conftest import seconds

OPENS = ["2024-06-03T13:30", "2024-06-03T14:30"]


def read(answer, granularity="1h"):
    return read_chart(answer, "AAPL", "AAPL", granularity)


def with_quote(body, **columns):
    body["chart"]["result"][0]["indicators"]["quote"][0].update(columns)
    return body


def with_meta(body, **fields):
    body["chart"]["result"][0]["meta"].update(fields)
    return body


def test_rows_become_columns_of_numbers(chart, answer, bar):
    read_back = read(answer(chart(OPENS, last_trade="2024-06-03T20:00")))
    assert read_back.opens.tolist() == [seconds(each) for each in OPENS]
    assert read_back.values.tolist() == [list(bar(100.0)), list(bar(101.0))]
    assert str(read_back.zone) == "America/New_York"
    assert read_back.last_trade == seconds("2024-06-03T20:00")


def test_whole_numbers_are_numbers(chart, answer):
    read_back = read(answer(chart(OPENS[:1], [(100, 102, 98, 101, 2**53)])))
    assert read_back.values.tolist() == [[100.0, 102.0, 98.0, 101.0, 2.0**53]]


def test_null_is_nan(chart, answer):
    read_back = read(answer(chart(OPENS[:1], [(None, 102.0, 98.0, 101.0, None)])))
    assert np.isnan(read_back.values[0, [0, 4]]).all()


def test_a_chart_without_rows_has_none_of_its_columns(chart, answer):
    body = chart([])
    del body["chart"]["result"][0]["timestamp"]
    body["chart"]["result"][0]["indicators"] = {"quote": [{}], "adjclose": [{}]}
    assert len(read(answer(body)).opens) == 0


def test_unsorted_rows_are_sorted(chart, answer, bar):
    read_back = read(answer(chart(OPENS[::-1], [bar(101.0), bar(100.0)])))
    assert read_back.values[:, 0].tolist() == [100.0, 101.0]


def test_equal_rows_of_one_time_collapse(chart, answer):
    assert len(read(answer(chart(OPENS[:1] * 2, [(1.0, 2.0, 1.0, 2.0, None)] * 2))).opens) == 1


def test_differing_rows_of_one_time_are_asked_for_again(chart, answer, bar):
    with pytest.raises(InconsistentAnswer, match="AAPL: two bars of 1717421400 s differ"):
        read(answer(chart(OPENS[:1] * 2, [bar(100.0), bar(101.0)])))


@pytest.mark.parametrize("granularity", ["1d", "5m", ""])
def test_another_granularity_than_asked_is_refused(chart, answer, granularity):
    with pytest.raises(InconsistentAnswer, match=f"asked for AAPL by 1h, answered '{granularity}'"):
        read(answer(chart(OPENS, granularity=granularity)))


def test_sixty_minutes_are_an_hour(chart, answer):
    assert len(read(answer(chart(OPENS, granularity="60m"))).opens) == 2


def test_the_chart_of_another_ticker_is_refused(chart, answer):
    with pytest.raises(InconsistentAnswer, match="answered 'MSFT'"):
        read(answer(chart(OPENS, ticker="MSFT")))


def test_an_unknown_ticker_is_an_unknown_symbol(failure, answer):
    body = failure("Not Found", "No data found, symbol may be delisted")
    with pytest.raises(UnknownSymbol, match="'AAPL': Yahoo has no ticker 'AAPL'") as caught:
        read(answer(body, status=404))
    assert (caught.value.symbol, caught.value.status) == ("AAPL", 404)


@pytest.mark.parametrize("status", [200, 400])
def test_a_span_without_data_is_no_rows(failure, answer, status):
    why = "Data doesn't exist for startDate = 0, endDate = 86400"
    assert read(answer(failure("Bad Request", why), status=status)) is None


@pytest.mark.parametrize("under", ["chart", "finance"])
def test_any_other_complaint_is_passed_on_in_its_words(failure, answer, under):
    why = "1h data not available for startTime=0. The requested range must be within 730 days."
    body = failure("Unprocessable Entity", why, under=under)
    with pytest.raises(RequestRejected, match="must be within 730 days"):
        read(answer(body, status=422))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ExchangeFault),
        (403, AccessDenied),
        (404, RequestRejected),
        (429, RateLimited),
        (500, ExchangeFault),
        (503, ExchangeFault),
    ],
)
def test_a_page_in_place_of_a_chart_is_told_by_its_status(answer, status, kind):
    page = {"content": b"<html>Too Many Requests</html>", "status": status}
    with pytest.raises(kind, match=f"HTTP {status}"):
        read(answer(**page))


@pytest.mark.parametrize("content", [b"", b"{", b"<html>", b"\xff"])
def test_what_is_no_json_is_a_fault(answer, content):
    with pytest.raises(ExchangeFault, match="answered no JSON"):
        read(answer(content=content))


def test_a_page_that_says_it_is_html_is_a_fault(answer):
    with pytest.raises(ExchangeFault, match="answered no JSON but text/html"):
        read(answer(content=b"Will be right back", **{"content-type": "text/html"}))


@pytest.mark.parametrize("value", ["1.5", True, [], {}, 1e31, -1e31, 10**400])
@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_a_number_that_is_none_is_refused_by_its_name(chart, answer, name, value):
    body = with_quote(chart(OPENS[:1]), **{name: [value]})
    with pytest.raises((MalformedAnswer, ExchangeFault), match=f"{name}|no JSON"):
        read(answer(body))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(chart, answer, text):
    content = json.dumps(chart(OPENS[:1])).replace("102.0", text).encode()
    with pytest.raises((MalformedAnswer, ExchangeFault)):
        read(answer(content=content))


@pytest.mark.parametrize("time", ["1717421400", 1.5, None, True, 10**12, -(10**12)])
def test_a_time_that_is_none_is_refused(chart, answer, time):
    body = chart(OPENS[:1])
    body["chart"]["result"][0]["timestamp"] = [time]
    with pytest.raises(MalformedAnswer, match="timestamp"):
        read(answer(body))


def test_columns_of_another_length_are_refused(chart, answer):
    with pytest.raises(MalformedAnswer, match="1 values of close for 2 rows"):
        read(answer(with_quote(chart(OPENS), close=[1.0])))


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/passwd", "x" * 9999])
def test_a_time_zone_that_there_is_not_is_refused(chart, answer, name):
    with pytest.raises(MalformedAnswer, match="exchangeTimezoneName"):
        read(answer(with_meta(chart(OPENS), exchangeTimezoneName=name)))


@pytest.mark.parametrize("result", [None, [], [{}], {}, "x"])
def test_an_answer_without_a_chart_is_malformed(answer, result):
    with pytest.raises(MalformedAnswer):
        read(answer({"chart": {"result": result, "error": None}}))


def test_two_charts_in_place_of_one_are_malformed(chart, answer):
    body = chart(OPENS)
    body["chart"]["result"] *= 2
    with pytest.raises(MalformedAnswer, match="answered 2 charts"):
        read(answer(body))
