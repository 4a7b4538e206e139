from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InconsistentAnswer, MalformedAnswer
from flash_pipeline.market import FUNDING_SCHEMA, TimeRange, parse_instant

HOUR = 3_600_000
NOW = parse_instant("2025-05-03T16:00Z")
YEAR = TimeRange(NOW - 365 * 24 * HOUR, NOW)


def _row(time: int, rate: str = "0.0001", symbol: str = "BTCUSDT") -> dict[str, str]:
    return {"symbol": symbol, "fundingRate": rate, "fundingRateTimestamp": str(time)}


def _exchange(envelope, times: Sequence[int]):
    """Answer as the exchange does: the newest 200 up to `endTime`, newest first."""

    def answer(call):
        known = [t for t in sorted(times, reverse=True) if t <= int(call.query["endTime"])]
        return envelope({"category": "linear", "list": [_row(t) for t in known[:200]]})

    return answer


def _times(table) -> list[int]:
    return table["funding_time"].to_pylist()


def test_settlements_become_a_typed_table_oldest_first(scripted, envelope):
    rows = [_row(NOW, "-0.00230379"), _row(NOW - 8 * HOUR), _row(NOW - 16 * HOUR)]
    client, script = scripted(envelope({"category": "linear", "list": rows}))
    table = client.funding("BTCUSDT", TimeRange(NOW - 8 * HOUR, NOW + 1))
    assert table.schema.equals(FUNDING_SCHEMA, check_metadata=True)
    assert table.to_pylist() == [
        {"funding_time": NOW - 8 * HOUR, "rate": 0.0001},
        {"funding_time": NOW, "rate": -0.00230379},
    ]
    assert len(script.asked) == 1


def test_a_page_is_asked_for_by_its_end_and_never_by_a_start_alone(scripted, envelope):
    client, script = scripted(_exchange(envelope, range(NOW - 300 * 8 * HOUR, NOW, 8 * HOUR)))
    client.funding("BTCUSDT", TimeRange(NOW - 290 * 8 * HOUR, NOW))
    assert script.asked[0].path == "/v5/market/funding/history"
    first, second = (call.query for call in script.asked)
    assert first == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "endTime": str(NOW - 1),
        "limit": "200",
    }
    assert second["endTime"] == str(NOW - 200 * 8 * HOUR - 1)
    assert not any("startTime" in call.query for call in script.asked)


@pytest.mark.parametrize("every", [1, 4, 8])
def test_all_pages_of_a_year_are_put_together(scripted, envelope, every):
    times = list(range(YEAR.start, NOW, every * HOUR))
    client, script = scripted(_exchange(envelope, times))
    assert _times(client.funding("BTCUSDT", YEAR)) == times
    assert len(script.asked) == -(-len(times) // 200)


def test_the_interval_may_change_within_the_history(scripted, envelope):
    day = 24 * HOUR
    times = [*range(NOW - 90 * day, NOW - 30 * day, 8 * HOUR)]
    times += [*range(NOW - 30 * day, NOW - day, 4 * HOUR), *range(NOW - day, NOW, HOUR)]
    client, _ = scripted(_exchange(envelope, times))
    assert _times(client.funding("BTCUSDT", TimeRange(NOW - 90 * day, NOW))) == times


def test_an_empty_page_is_asked_for_twice_before_the_history_ends_there(scripted, envelope):
    empty = envelope({"list": []})
    client, script = scripted(envelope({"list": [_row(NOW - HOUR)]}), empty, empty)
    assert _times(client.funding("BTCUSDT", YEAR)) == [NOW - HOUR]
    assert len(script.asked) == 3


def test_a_page_that_was_empty_by_mistake_loses_nothing(scripted, envelope):
    times = list(range(NOW - 250 * HOUR, NOW, HOUR))
    exchange = _exchange(envelope, times)
    client, _ = scripted(exchange, envelope({"list": []}), exchange)
    assert _times(client.funding("BTCUSDT", YEAR)) == times


def test_an_empty_window_asks_nothing(scripted, envelope):
    client, script = scripted(envelope())
    assert client.funding("BTCUSDT", TimeRange(NOW, NOW)).num_rows == 0
    assert script.asked == []


def test_a_page_that_does_not_advance_ends_with_an_error(scripted, envelope):
    client, script = scripted(envelope({"list": [_row(NOW - HOUR)]}))
    with pytest.raises(InconsistentAnswer, match="asked for up to 2025-05-03T14:59Z"):
        client.funding("BTCUSDT", YEAR)
    assert len(script.asked) == 1 + 6


@pytest.mark.parametrize(
    "rows",
    [
        [_row(NOW - HOUR, symbol="ETHUSDT")],
        [_row(NOW - HOUR), _row(NOW - HOUR, "0.0002")],
        [_row(NOW + HOUR)],
    ],
    ids=["another symbol", "two rates of one time", "not settled yet"],
)
def test_a_page_that_contradicts_itself_is_asked_for_again(scripted, envelope, rows):
    right = envelope({"list": [_row(NOW - HOUR, "0.0003")]})
    client, script = scripted(envelope({"list": rows}, time=NOW), right)
    table = client.funding("BTCUSDT", TimeRange(NOW - HOUR, NOW + 2 * HOUR))
    assert table["rate"].to_pylist() == [0.0003]
    assert len(script.asked) == 2


def test_equal_rows_count_once(scripted, envelope):
    client, _ = scripted(envelope({"list": [_row(NOW - HOUR), _row(NOW - HOUR)]}))
    assert client.funding("BTCUSDT", TimeRange(NOW - HOUR, NOW)).num_rows == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("symbol", value) for value in (None, 7, [])),
        *(("fundingRate", value) for value in (None, 0.0001, [], "", "x", "nan", "1e999")),
        *(("fundingRateTimestamp", value) for value in (None, 7, [], "", "x", "1.5", "9" * 15)),
    ],
)
def test_a_garbled_field_is_malformed_and_named(scripted, envelope, field, value):
    client, _ = scripted(envelope({"list": [{**_row(NOW - HOUR), field: value}]}))
    with pytest.raises(MalformedAnswer, match=rf"result\.list\.0\.{field}"):
        client.funding("BTCUSDT", YEAR)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 3000), max_size=700), st.integers(0, 3000), st.integers(0, 3000))
def test_whatever_the_history_every_settlement_of_the_window_comes_once(
    scripted, envelope, hours, first, length
):
    times = [NOW - 3001 * HOUR + hour * HOUR for hour in hours]
    start = NOW - 3001 * HOUR + first * HOUR
    window = TimeRange(start, min(start + length * HOUR, NOW))
    client, _ = scripted(_exchange(envelope, times))
    assert _times(client.funding("BTCUSDT", window)) == sorted(t for t in times if t in window)
