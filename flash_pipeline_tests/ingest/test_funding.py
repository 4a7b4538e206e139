"""What of the funding is asked for, stored and doubted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import InvalidTimeRange, SchemaMismatch, UnknownSymbol
from flash_pipeline.ingest.funding import (
    audit_funding,
    doubt_funding,
    funding_holes,
    refresh_funding,
)
from flash_pipeline.market import FUNDING_SCHEMA, Month, TimeRange, iso_utc, parse_instant
from flash_pipeline.storage.funding import FundingStore

HOUR = 3_600_000
JUNE, JULY = Month(2024, 6), Month(2024, 7)


class FakeFunding:
    """Settlements by symbol, and a clock that stands still."""

    name = "fake"

    def __init__(self, **times):
        self.times = times
        self.now_ms = parse_instant("2024-07-10T03:00Z")
        self.synthetic = False
        self.asked = []
        self.lost = []

    def now(self):
        return self.now_ms

    def is_synthetic(self):
        return self.synthetic

    def funding(self, symbol, window):
        self.asked.append((symbol, window))
        times = [t for t in self.times[symbol] if t in window and t <= self.now_ms]
        lost = set(self.lost.pop(0)) if self.lost else set()
        return settlements([t for n, t in enumerate(times) if n not in lost])


def settlements(times, rate=1e-4) -> pa.Table:
    columns = {"funding_time": list(times), "rate": [rate] * len(times)}
    return pa.table(columns, schema=FUNDING_SCHEMA)


def every(hours, first="2024-06-01", last="2024-08-01"):
    return list(range(parse_instant(first), parse_instant(last), hours * HOUR))


@pytest.fixture
def store(tmp_path):
    return FundingStore(tmp_path / "funding")


def refresh(source, store, first=JUNE, last=JULY):
    source.asked = []
    return refresh_funding(source, store, list(source.times), first, last)


def held(store, symbol="BTCUSDT"):
    return store.read_all(symbol)["funding_time"].to_pylist()


def test_every_settlement_until_now_is_stored_by_month(store):
    source = FakeFunding(BTCUSDT=every(8))
    done = refresh(source, store)
    assert held(store) == every(8, last="2024-07-10T03:00Z")
    assert store.months("BTCUSDT") == [JUNE, JULY]
    assert (done.rows, done.files_written, len(source.asked)) == ({"BTCUSDT": 118}, 2, 1)


def test_a_refresh_again_asks_for_what_came_since_and_writes_nothing(store):
    source = FakeFunding(BTCUSDT=every(8))
    refresh(source, store)
    done = refresh(source, store)
    assert done.files_written == 0
    newest = parse_instant("2024-07-10T00:00Z")
    assert [window for _, window in source.asked] == [TimeRange(newest + 1, source.now_ms + 1)]


def test_each_symbol_has_intervals_of_its_own_and_they_change(store):
    changing = [
        *every(8, last="2024-06-20"),
        *every(4, "2024-06-20", "2024-06-25"),
        *every(1, "2024-06-25"),
    ]
    source = FakeFunding(BTCUSDT=every(8), ETHUSDT=every(1), XRPUSDT=changing)
    refresh(source, store)
    until = source.now_ms
    for symbol, times in source.times.items():
        assert held(store, symbol) == [t for t in times if t <= until]
    assert audit_funding(store, source.times) == []
    assert doubt_funding(store, source.times) == []


def test_an_interval_that_became_shorter_at_the_end_of_a_month_loses_nothing(store):
    before, after = every(8, last="2024-06-30T16:00:01Z"), every(4, "2024-06-30T20:00Z")
    source = FakeFunding(BTCUSDT=before + after)
    source.now_ms = parse_instant("2024-06-30T17:00Z")
    refresh(source, store, JUNE, JUNE)
    source.now_ms = parse_instant("2024-07-01T00:02Z")
    refresh(source, store, JUNE, JULY)
    assert [iso_utc(t) for t in held(store)[-3:]] == [
        "2024-06-30T16:00Z",
        "2024-06-30T20:00Z",
        "2024-07-01T00:00Z",
    ]


@pytest.mark.parametrize("lost", [[5], [0], [117], range(118), [40, 41, 42]])
def test_settlements_lost_from_an_answer_are_asked_for_again(store, lost):
    source = FakeFunding(BTCUSDT=every(8))
    source.lost = [lost]
    refresh(source, store)
    assert held(store) == every(8, last="2024-07-10T03:00Z")


def test_a_hole_that_stays_is_asked_for_by_each_refresh_and_doubted(store):
    source = FakeFunding(BTCUSDT=[t for t in every(8) if t != parse_instant("2024-06-10T08:00Z")])
    refresh(source, store)
    assert doubt_funding(store, ["BTCUSDT"]) == [
        "BTCUSDT: settlements seem to be missing in 2024-06-10T00:00Z to 2024-06-10T16:00Z"
    ]
    source.times["BTCUSDT"] = every(8)
    refresh(source, store)
    assert held(store) == every(8, last="2024-07-10T03:00Z")


def test_a_symbol_without_funding_is_empty_and_no_error(store):
    done = refresh(FakeFunding(BTCUSDT=[]), store)
    assert done.rows == {"BTCUSDT": 0}
    assert held(store) == []


def test_a_month_gone_by_without_funding_has_a_file_that_says_so(store):
    refresh(FakeFunding(BTCUSDT=every(8, "2024-07-01")), store)
    assert store.months("BTCUSDT") == [JUNE, JULY]
    assert store.read_month("BTCUSDT", JUNE).num_rows == 0
    assert refresh(FakeFunding(BTCUSDT=every(8, "2024-07-01")), store).files_written == 0


def test_a_symbol_that_is_forgotten_keeps_its_funding_and_holds_up_no_other(store):
    source = FakeFunding(BTCUSDT=every(8), ETHUSDT=every(8))
    refresh(source, store, JUNE, JUNE)
    ask = source.funding

    def forget(symbol, window):
        if symbol == "BTCUSDT":
            raise UnknownSymbol("forgotten", symbol=symbol)
        return ask(symbol, window)

    source.funding = forget
    assert refresh(source, store).rows == {"BTCUSDT": 90, "ETHUSDT": 118}


def test_a_symbol_listed_later_begins_with_its_first_settlement(store):
    source = FakeFunding(BTCUSDT=every(8, "2024-06-20T08:00Z"))
    refresh(source, store)
    assert held(store) == every(8, "2024-06-20T08:00Z", "2024-07-10T03:00Z")


def test_a_month_that_has_not_begun_is_refused(store):
    with pytest.raises(InvalidTimeRange, match="2024-08 has not begun"):
        refresh(FakeFunding(BTCUSDT=every(8)), store, Month(2024, 8), Month(2024, 8))


def test_real_and_simulated_funding_do_not_mix(store):
    source = FakeFunding(BTCUSDT=every(8))
    refresh(source, store)
    source.synthetic = True
    with pytest.raises(SchemaMismatch, match=r"holds real funding .* serves simulated"):
        refresh(source, store)


@pytest.mark.parametrize("rate", [-0.005, 0.005, -0.04, 0.0])
def test_real_rates_pass(store, rate):
    store.write_month("BTCUSDT", JUNE, settlements(every(8)[:3], rate), synthetic=False)
    assert audit_funding(store, ["BTCUSDT"]) == []


def test_times_that_jitter_by_milliseconds_pass(store):
    times = [time + jitter for time, jitter in zip(every(8)[:4], (0, 31, 5, 12), strict=True)]
    store.write_month("BTCUSDT", JUNE, settlements(times), synthetic=False)
    assert audit_funding(store, ["BTCUSDT"]) == []


@pytest.mark.parametrize(
    ("times", "rate", "problem"),
    [
        ([0, 8, 8], 1e-4, "1 settlements out of order or twice"),
        ([8, 0], 1e-4, "1 settlements out of order or twice"),
        ([0, 8.5], 1e-4, "1 settlements off the hour"),
        ([0, 24 * 30], 1e-4, "1 settlements of another month"),
        ([0], 0.5, "1 rates beyond 10%"),
        ([0], float("nan"), "1 rates beyond 10%"),
    ],
)
def test_broken_funding_is_counted(store, times, rate, problem):
    start = JUNE.time_range.start
    table = settlements([start + int(hours * HOUR) for hours in times], rate)
    store.write_month("BTCUSDT", JUNE, table, synthetic=False)
    assert audit_funding(store, ["BTCUSDT"]) == [f"BTCUSDT 2024-06: {problem}"]
    assert audit_funding(store, ["BTCUSDT"], [JULY]) == []


@pytest.mark.parametrize(
    ("hours", "holes"),
    [
        ([0, 8, 16, 24], 0),
        ([0, 8, 24, 32], 1),
        ([0, 8, 16, 20, 24, 28], 0),
        ([0, 4, 8, 16, 24], 0),
        ([0, 16, 24, 32], 1),
        ([0, 8, 16, 32], 1),
        ([0, 8], 0),
        ([0], 0),
        ([], 0),
    ],
)
def test_a_hole_is_longer_than_the_intervals_beside_it(hours, holes):
    assert len(funding_holes(np.array(hours, dtype=np.int64) * HOUR)) == holes


@pytest.mark.real_data
def test_real_funding_passes(store, real_data):
    table = pq.read_table(real_data / "BTCUSDT_funding.parquet", partitioning=None)
    times = table["funding_time"].to_pylist()
    source = FakeFunding(BTCUSDT=times)
    refresh(source, store, Month(2024, 5), JUNE)
    assert held(store) == times
    assert audit_funding(store, ["BTCUSDT"]) == doubt_funding(store, ["BTCUSDT"]) == []


@pytest.mark.parametrize("times", [every(8), []])
def test_a_file_that_was_cut_off_fails_the_check_and_is_fetched_anew(store, times):
    refresh(FakeFunding(BTCUSDT=every(8)), store)
    path = store.path("BTCUSDT", JUNE)
    path.write_bytes(path.read_bytes()[:-20])
    assert [f"{path} cannot be read" in each for each in audit_funding(store, ["BTCUSDT"])] == [
        True
    ]
    refresh(FakeFunding(BTCUSDT=times), store)
    assert audit_funding(store, ["BTCUSDT"]) == []
    assert store.read_month("BTCUSDT", JUNE).num_rows == (90 if times else 0)
