"""What a refresh stores, and what it asks for, when the source behaves."""

import pyarrow as pa
import pytest

from flash_pipeline.errors import EmptyMonth, InvalidSymbol, InvalidTimeRange, SchemaMismatch
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, iso_utc, parse_instant
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
BOTH = ("BTCUSDT", "ETHUSDT")
JUNE, JULY = Month(2024, 6), Month(2024, 7)

# One real hour of BTCUSDT as a client saved it while it formed, and as it ended.
FINAL = [1746284400000, 96315.3, 96455.0, 96273.7, 96362.4, 1423.912, 137249252.1732]
FORMING = [1746284400000, 96315.3, 96455.0, 96315.2, 96370.0, 800.431, None]
BEFORE = [
    [1746277200000, 96059.1, 96275.3, 96043.1, 96275.3, 1581.753, 152100355.2121],
    [1746280800000, 96275.3, 96379.3, 96226.7, 96315.3, 1659.965, 159867176.9422],
]


def _candles(*rows: list[float | None]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column) for column in columns], schema=CANDLE_SCHEMA)


def _times(candles: pa.Table) -> list[str]:
    return [iso_utc(start) for start in candles["start_time"].to_pylist()]


def _revised(candles: pa.Table, row: int, by: float) -> pa.Table:
    closes = candles["close"].to_pylist()
    closes[row] += by
    return candles.set_column(4, candles.schema.field("close"), pa.array(closes))


def test_exactly_the_closed_candles_are_stored(refresh, market, series, store):
    recorded = series("2024-06-01", 48)
    done, _ = refresh(market(BTCUSDT=recorded), "2024-06-02T05:30Z", "2024-06")
    assert store.read_all("BTCUSDT").equals(recorded.slice(0, 29))
    assert (done.rows, done.missing, done.files_written, done.synthetic) == (29, 0, 1, False)


@pytest.mark.parametrize(
    ("now", "newest"),
    [("2024-06-01T05:59:59.999Z", "2024-06-01T04:00Z"), ("2024-06-01T06:00Z", "2024-06-01T05:00Z")],
)
def test_a_candle_is_closed_from_the_very_end_of_its_hour(
    refresh, market, series, store, now, newest
):
    refresh(market(BTCUSDT=series("2024-06-01", 48)), now, "2024-06")
    assert _times(store.read_all("BTCUSDT"))[-1] == newest


def test_a_candle_is_not_saved_while_it_forms(refresh, market, store):
    source = market(BTCUSDT=_candles(*BEFORE, FINAL))
    refresh(source, "2025-05-03T15:30Z", "2025-05")
    assert _times(store.read_all("BTCUSDT")) == ["2025-05-03T13:00Z", "2025-05-03T14:00Z"]
    refresh(source, "2025-05-03T16:00:05Z", "2025-05")
    newest = store.read_all("BTCUSDT").to_pylist()[-1]
    assert (newest["close"], newest["volume"]) == (96362.4, 1423.912)


def test_a_candle_that_was_saved_while_it_formed_is_put_right(refresh, market, store):
    saved = _candles(*BEFORE, FORMING)
    store.write_month("BTCUSDT", Month(2025, 5), saved, synthetic=False)
    final = _candles(*BEFORE, FINAL)
    refresh(market(BTCUSDT=final), "2025-05-03T17:10Z", "2025-05")
    assert store.read_all("BTCUSDT").equals(final)


def test_a_saved_forming_candle_is_removed_while_it_still_forms(refresh, market, store):
    saved = _candles(*BEFORE, FORMING)
    store.write_month("BTCUSDT", Month(2025, 5), saved, synthetic=False)
    source = market(BTCUSDT=_candles(*BEFORE, FINAL))
    refresh(source, "2025-05-03T15:45Z", "2025-05")
    assert _times(store.read_all("BTCUSDT"))[-1] == "2025-05-03T14:00Z"


def test_a_second_refresh_at_the_same_time_writes_nothing(refresh, market, series, store, files):
    source = market(BTCUSDT=series("2024-06-01", 48), ETHUSDT=series("2024-06-01", 48))
    asked = {"now": "2024-06-02T05:30Z", "first": "2024-06", "symbols": BOTH}
    first, _ = refresh(source, **asked)
    before = files()
    again, queries = refresh(source, **asked)
    assert files() == before
    assert (again.files_written, again.rows, again.months) == (0, first.rows, first.months)
    assert [query.hours for query in queries] == [3, 3]


def test_an_hour_later_each_symbol_gets_one_candle_by_one_request(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48), ETHUSDT=series("2024-06-01", 48))
    refresh(source, "2024-06-02T05:02Z", "2024-06", symbols=BOTH)
    before = {symbol: store.read_all(symbol) for symbol in BOTH}
    done, queries = refresh(source, "2024-06-02T06:02Z", "2024-06", symbols=BOTH)
    for symbol in BOTH:
        after = store.read_all(symbol)
        assert after.slice(0, before[symbol].num_rows).equals(before[symbol])
        assert _times(after)[before[symbol].num_rows :] == ["2024-06-02T05:00Z"]
    assert sorted(query.symbol for query in queries) == list(BOTH)
    assert (done.requests, done.files_written) == (2, 2)


def test_the_turn_of_a_month_is_crossed_by_one_request(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 24 * 31))
    refresh(source, "2024-06-30T23:59Z", "2024-06", "2024-07")
    assert store.months("BTCUSDT") == [JUNE]
    done, queries = refresh(source, "2024-07-01T01:01Z", "2024-06", "2024-07")
    assert len(queries) == 1
    assert done.files_written == 2
    assert _times(store.read_month("BTCUSDT", JUNE))[-2:] == [
        "2024-06-30T22:00Z",
        "2024-06-30T23:00Z",
    ]
    assert _times(store.read_month("BTCUSDT", JULY)) == ["2024-07-01T00:00Z"]


def test_a_month_that_has_just_begun_has_no_candle_yet(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-30", 48))
    done, queries = refresh(source, "2024-07-01T00:30Z", "2024-07")
    assert (done.rows, done.months, queries) == (0, (), [])
    assert store.months("BTCUSDT") == []


def test_the_last_candle_of_a_month_is_stored_by_the_next_months_first_run(
    refresh, market, series, store
):
    source = market(BTCUSDT=series("2024-06-30", 48))
    refresh(source, "2024-07-01T00:02Z", "2024-06", "2024-07")
    assert _times(store.read_all("BTCUSDT"))[-1] == "2024-06-30T23:00Z"


def test_the_newest_three_are_read_again_and_a_revision_replaces_them(
    refresh, market, series, store
):
    recorded = series("2024-06-01", 48)
    refresh(market(BTCUSDT=recorded), "2024-06-01T10:00Z", "2024-06")
    revised = _revised(recorded, 7, 0.25)
    done, _ = refresh(market(BTCUSDT=revised), "2024-06-01T10:00Z", "2024-06")
    assert store.read_all("BTCUSDT").equals(revised.slice(0, 10))
    assert (done.files_written, done.rows) == (1, 10)


def test_a_candle_older_than_three_is_kept_as_it_is(refresh, market, series, store):
    recorded = series("2024-06-01", 48)
    refresh(market(BTCUSDT=recorded), "2024-06-01T10:00Z", "2024-06")
    revised = _revised(recorded, 6, 0.25)
    done, _ = refresh(market(BTCUSDT=revised), "2024-06-01T10:00Z", "2024-06")
    assert store.read_all("BTCUSDT").equals(recorded.slice(0, 10))
    assert done.files_written == 0


def test_a_month_gone_by_costs_no_request(refresh, market, series):
    source = market(BTCUSDT=series("2024-06-01", 24 * 30))
    refresh(source, "2024-07-15", "2024-06")
    done, queries = refresh(source, "2024-07-15", "2024-06")
    assert (queries, done.rows, done.files_written) == ([], 720, 0)


def test_a_gap_stays_absent_and_is_counted(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48, absent=(3, 4, 20)))
    done, _ = refresh(source, "2024-06-02T00:00Z", "2024-06")
    assert (done.rows, done.missing) == (21, 3)
    (month,) = done.months
    assert (month.symbol, month.month, month.rows, month.expected) == ("BTCUSDT", JUNE, 21, 24)
    assert "2024-06-01T03:00Z" not in _times(store.read_all("BTCUSDT"))


def test_a_gap_is_asked_for_again_and_filled_when_the_exchange_has_it(
    refresh, market, series, store, files
):
    whole = series("2024-06-01", 48)
    gappy = market(BTCUSDT=series("2024-06-01", 48, absent=(3, 4)))
    refresh(gappy, "2024-06-02T00:00Z", "2024-06")
    before = files()
    still, queries = refresh(gappy, "2024-06-02T00:00Z", "2024-06")
    assert queries[0].window.start == parse_instant("2024-06-01T03:00Z")
    assert (still.missing, files()) == (2, before)
    filled, _ = refresh(market(BTCUSDT=whole), "2024-06-02T00:00Z", "2024-06")
    assert filled.missing == 0
    assert store.read_all("BTCUSDT").equals(whole.slice(0, 24))


def test_candles_missing_at_the_newest_end_are_counted_and_come_later(
    refresh, market, series, store
):
    late = market(BTCUSDT=series("2024-06-01", 8))
    done, _ = refresh(late, "2024-06-01T10:00Z", "2024-06")
    assert (done.rows, done.missing) == (8, 2)
    done, queries = refresh(
        market(BTCUSDT=series("2024-06-01", 48)), "2024-06-01T10:00Z", "2024-06"
    )
    assert (done.rows, done.missing, len(queries)) == (10, 0, 1)


def test_a_month_before_the_listing_is_empty_by_name_and_touches_nothing(
    refresh, market, series, store
):
    source = market(BTCUSDT=series("2024-06-01", 48), ETHUSDT=series("2024-06-01", 48))
    with pytest.raises(
        EmptyMonth, match=r"month 2024-04 is empty: .*BTCUSDT, ETHUSDT.*2024-06-01T00:00Z"
    ):
        refresh(source, "2024-06-02T00:00Z", "2024-04", symbols=BOTH)
    assert not store.folder.exists()


def test_one_empty_month_among_others_leaves_what_the_others_have(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48))
    with pytest.raises(EmptyMonth, match="2024-05"):
        refresh(source, "2024-06-02T00:00Z", "2024-05", "2024-06")
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 24))


def test_an_empty_month_is_no_error_where_none_is_required(market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48))
    source.now_ms = parse_instant("2024-06-02T00:00Z")
    april = Month(2024, 4)
    done = refresh_klines(source, store, ["BTCUSDT"], april, april, require_candles=False)
    assert (done.rows, done.missing) == (0, 720)


def test_a_month_that_one_symbol_has_is_not_empty(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48), ETHUSDT=series("2024-07-01", 48))
    done, _ = refresh(source, "2024-07-01T10:00Z", "2024-06", symbols=BOTH)
    assert {m.symbol: m.rows for m in done.months} == {"BTCUSDT": 48, "ETHUSDT": 0}
    assert store.months("ETHUSDT") == []


def test_a_month_in_the_future_is_refused_with_the_exchanges_clock(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-06-01", 48))
    with pytest.raises(InvalidTimeRange, match=r"2024-07 has not begun: .*2024-06-02T00:00Z"):
        refresh(source, "2024-06-02T00:00Z", "2024-07")
    assert not store.folder.exists()


def test_a_range_that_reaches_into_the_future_ends_at_the_clock(refresh, market, series):
    source = market(BTCUSDT=series("2024-06-01", 48))
    done, _ = refresh(source, "2024-06-02T00:00Z", "2024-06", "2024-12")
    assert [month.month for month in done.months] == [JUNE]
    assert (done.rows, done.missing) == (24, 0)


def test_a_reversed_range_of_months_is_refused(refresh, market, series):
    source = market(BTCUSDT=series("2024-06-01", 48))
    with pytest.raises(InvalidTimeRange, match="ends before it starts"):
        refresh(source, "2024-07-02T00:00Z", "2024-06", "2024-05")


@pytest.mark.parametrize("month", ["2024-06", "2024-07"])
def test_two_intervals_do_not_mix_in_one_folder(refresh, market, series, store, files, month):
    source = market(BTCUSDT=series("2024-06-01", 24 * 31))
    refresh(source, "2024-06-02T00:00Z", "2024-06")
    before = files()
    other = KlineStore(store.folder, Interval.HOUR_4)
    with pytest.raises(SchemaMismatch, match="interval '60', asked for '240'"):
        refresh(source, "2024-07-02T00:00Z", month, into=other)
    assert files() == before


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (True, r"holds simulated candles .* serves real ones"),
        (False, r"holds real candles .* serves simulated ones"),
    ],
)
def test_real_and_simulated_candles_do_not_mix(refresh, market, series, files, stored, message):
    source = market(BTCUSDT=series("2024-06-01", 48), ETHUSDT=series("2024-06-01", 48))
    source.synthetic = stored
    refresh(source, "2024-06-01T10:00Z", "2024-06")
    before = files()
    source.synthetic = not stored
    with pytest.raises(SchemaMismatch, match=message):
        refresh(source, "2024-06-02T00:00Z", "2024-06", symbols=["ETHUSDT"])
    assert files() == before


@pytest.mark.parametrize("symbol", ["../../etc", "btcusdt", "", "BTC USDT"])
def test_a_malformed_symbol_is_refused_before_it_reaches_a_path(
    refresh, market, series, store, symbol
):
    source = market(BTCUSDT=series("2024-06-01", 48))
    with pytest.raises(InvalidSymbol):
        refresh(source, "2024-06-02T00:00Z", "2024-06", symbols=["BTCUSDT", symbol])
    assert not store.folder.exists()


def test_many_candles_take_one_request_per_thousand_and_symbol(refresh, market, series, store):
    source = market(BTCUSDT=series("2024-03-01", 2500), ETHUSDT=series("2024-03-01", 2500))
    now = iso_utc(parse_instant("2024-03-01") + 2500 * HOUR)
    done, queries = refresh(source, now, "2024-03", "2024-06", symbols=BOTH)
    assert sorted(query.symbol for query in queries) == ["BTCUSDT"] * 3 + ["ETHUSDT"] * 3
    assert done.requests == 6
    for symbol in BOTH:
        assert store.read_all(symbol).equals(series("2024-03-01", 2500))


def test_a_month_file_holds_its_month_alone(refresh, market, series, store):
    refresh(market(BTCUSDT=series("2024-05-01", 24 * 92)), "2024-07-15", "2024-05", "2024-07")
    for month in store.months("BTCUSDT"):
        starts = store.read_month("BTCUSDT", month)["start_time"].to_pylist()
        assert starts == sorted(set(starts))
        assert {Month.containing(start) for start in starts} == {month}
