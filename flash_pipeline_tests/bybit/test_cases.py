"""The cases that a real ingester has met, as far as they are the client's to handle.

Their numbers are those of the notes on the exchange's API. Case 2 (a candle revised after its
close) and case 15 (turnover in the volume's column) are seen by comparing: the ingest has them.
"""

from itertools import pairwise

import pytest

from flash_pipeline.bybit import fetch_instruments
from flash_pipeline.errors import AccessTooFrequent, CountryBlocked, InconsistentAnswer
from flash_pipeline.market import Interval, TimeRange, parse_instant

HOUR = 3_600_000
NOON = parse_instant("2025-05-03T12:00Z")
CRASH = parse_instant("2025-05-03T15:00Z")
FORMING = [str(CRASH), "96315.3", "96455", "96315.2", "96370", "800.431", ""]
FINAL = [str(CRASH), "96315.3", "96455", "96273.7", "96362.4", "1423.912", "137249252.1732"]


@pytest.fixture
def candles_of(scripted, envelope):
    """Read the answer to a window of three hours from noon on, long after it."""

    def candles_of(*rows: list[str], first: int = NOON, time: int = NOON + 99 * HOUR):
        client, _ = scripted(envelope({"symbol": "BTCUSDT", "list": list(rows)}, time=time))
        window = TimeRange(first, first + 3 * HOUR)
        return client.candles("BTCUSDT", Interval.HOUR_1, window).candles.to_pylist()

    return candles_of


def _row(hour: int, *numbers: object) -> list[str]:
    return [str(NOON + hour * HOUR), *map(str, numbers)]


def test_case_1_a_forming_candle_never_passes_for_final(candles_of):
    half_past = CRASH + HOUR // 2
    assert candles_of(FORMING, first=CRASH, time=half_past) == []
    (final,) = candles_of(FINAL, first=CRASH, time=CRASH + HOUR)
    assert (final["close"], final["volume"]) == (96362.4, 1423.912)


def test_case_2_a_closed_candle_is_given_as_it_stands_now(candles_of):
    before = candles_of(_row(0, 5, 6, 4, 5, 10, 50))
    after = candles_of(_row(0, 5, 6, 4, 5.5, 10, 50))
    assert (before[0]["close"], after[0]["close"]) == (5, 5.5)


def test_case_3_the_newest_tail_of_a_wider_range_is_no_answer_to_the_window(candles_of):
    tail = [_row(hour, 5, 6, 4, 5, 10, 50) for hour in range(97, 100)]
    with pytest.raises(InconsistentAnswer, match="outside the window"):
        candles_of(*tail)


def test_case_4_a_launch_time_years_off_the_first_candle_is_only_what_is_announced(
    scripted, envelope
):
    launched = {"symbol": "BTCUSDT", "launchTime": str(NOON + 500 * 24 * HOUR)}
    rows = [_row(0, 5, 6, 4, 5, 10, 50)]
    client, _ = scripted(envelope({"list": [launched]}), envelope({"list": rows}))
    assert int(client.instrument("BTCUSDT")["launchTime"]) > NOON
    window = TimeRange(NOON, NOON + HOUR)
    assert client.candles("BTCUSDT", Interval.HOUR_1, window).candles.num_rows == 1


def test_case_5_prices_off_todays_tick_are_taken_as_they_are(candles_of):
    (candle,) = candles_of(_row(0, "23000.5", "23001.37", "22999.5", "23000.0001", 10, 230000))
    assert (candle["high"], candle["close"]) == (23001.37, 23000.0001)


def test_case_6_float_noise_in_a_volume_is_a_number(candles_of):
    (candle,) = candles_of(_row(0, 5, 6, 4, 5, "341.89799999", 1700))
    assert candle["volume"] == 341.89799999


def test_case_7_a_near_empty_first_candle_is_a_candle(candles_of):
    (candle,) = candles_of(_row(2, 5, 5, 5, 5, "0", "0"))
    assert (candle["volume"], candle["turnover"]) == (0, 0)


def test_case_8_an_open_off_the_previous_close_passes(candles_of):
    gap = candles_of(_row(1, 7, 8, 6, 7, 10, 70), _row(0, 5, 6, 4, 5, 10, 50))
    assert [candle["open"] for candle in gap] == [5, 7]


@pytest.mark.parametrize("low", ["74", "44"])
def test_case_9_a_real_extreme_of_26_or_56_percent_passes(candles_of, low):
    (candle,) = candles_of(_row(0, "100", "100", low, "90", "9e5", "8.1e7"))
    assert candle["low"] == float(low)


def test_case_10_funding_of_half_a_percent_passes_whatever_the_interval(scripted, envelope):
    rows = [
        {"symbol": "BTCUSDT", "fundingRate": rate, "fundingRateTimestamp": str(NOON - h * HOUR)}
        for h, rate in ((1, "-0.005"), (2, "0.0001"), (6, "0.0001"), (14, "0.0001"))
    ]
    client, _ = scripted(envelope({"list": rows}))
    table = client.funding("BTCUSDT", TimeRange(NOON - 14 * HOUR, NOON))
    assert table["rate"].to_pylist() == [0.0001, 0.0001, 0.0001, -0.005]
    times = table["funding_time"].to_pylist()
    intervals = [(b - a) // HOUR for a, b in pairwise(times)]
    assert intervals == [8, 4, 1]


def test_case_11_a_rate_limit_at_the_top_of_the_hour_is_waited_out(scripted, envelope, pauses):
    limited = {"retCode": 10006, "retMsg": "Too many visits. Exceeded the API Rate Limit."}
    client, script = scripted(limited, limited, limited, envelope(time=7))
    assert client.server_time() == 7
    assert len(script.asked) == 4
    assert sum(pauses) >= 3


def test_case_12_html_403_pages_are_told_apart(scripted):
    html = {"Content-Type": "text/html"}
    pages = {
        b"<html>access too frequent</html>": AccessTooFrequent,
        b"<HTML>The Amazon CloudFront distribution is configured to block access": CountryBlocked,
    }
    for page, kind in pages.items():
        client, script = scripted((403, html, page))
        with pytest.raises(kind):
            client.server_time()
        assert len(script.asked) == 1


def test_case_13_an_empty_string_is_null_where_the_exchange_has_no_number(candles_of):
    (candle,) = candles_of(_row(0, 5, 6, 4, 5, 10, ""))
    assert candle["turnover"] is None


def test_case_14_an_instrument_beyond_the_first_page_is_not_lost(scripted, envelope):
    spec = {
        "status": "Trading",
        "baseCoin": "Z",
        "quoteCoin": "USDT",
        "launchTime": "7",
        "priceFilter": {"tickSize": "0.1"},
        "lotSizeFilter": {"qtyStep": "1", "minOrderQty": "1"},
        "fundingInterval": 60,
    }
    first = envelope({"list": [{"symbol": "AUSDT", **spec}], "nextPageCursor": "next"})
    second = envelope({"list": [{"symbol": "ZUSDT", **spec}], "nextPageCursor": ""})
    client, script = scripted(first, second)
    assert fetch_instruments(client, ["ZUSDT", "AUSDT"])["symbol"].to_pylist() == ["ZUSDT", "AUSDT"]
    assert script.asked[1].query["cursor"] == "next"


def test_case_15_a_turnover_in_the_volumes_column_is_left_to_the_checks_of_a_month(candles_of):
    (candle,) = candles_of(_row(0, 5, 6, 4, 5, 50, 10))
    assert (candle["volume"], candle["turnover"]) == (50, 10)
