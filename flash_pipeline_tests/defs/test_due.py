"""Which months a scheduled run covers."""

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.defs.due import months_to_refresh
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import WarehouseLocked
from flash_pipeline.ingest import Gap, GapCause, Ledger
from flash_pipeline.market import CANDLE_SCHEMA, FUNDING_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.funding import FundingStore

HOUR = 3_600_000
BOTH = ("BTCUSDT", "ETHUSDT")
TWO = PipelineResource(recipe="demo", symbols=list(BOTH), months=3)
APRIL, MAY, JUNE = Month(2024, 4), Month(2024, 5), Month(2024, 6)
NOW = parse_instant("2024-06-20T10:02:00Z")
JUST = NOW - HOUR


@pytest.fixture
def settings():
    return Settings.from_environment()


@pytest.fixture
def due(settings):
    """Give the months of a run."""

    def due(now="2024-06-20T10:02:00Z", pipeline=TWO, **options):
        return months_to_refresh(settings, pipeline, parse_instant(now), **options)

    return due


@pytest.fixture
def store_months(settings):
    """Store whole months, less the hours named as absent, of the trades or of the mark price."""

    def store_months(*months, symbols=BOTH, marks=False, absent=(), low=1.0):
        store = TWO.mark_store(settings) if marks else TWO.store(settings)
        for month in months:
            starts = np.array(month.time_range.candle_starts(Interval.HOUR_1))
            starts = np.delete(starts, list(absent))
            values = dict.fromkeys(CANDLE_SCHEMA.names, np.ones(len(starts)))
            values |= {"start_time": starts, "low": np.full(len(starts), low)}
            table = pa.table({n: values[n] for n in store.schema.names}, schema=store.schema)
            for symbol in symbols:
                store.write_month(symbol, month, table, synthetic=True)

    return store_months


@pytest.fixture
def fund(settings):
    """Store a settlement in each month."""

    def fund(*months, symbols=BOTH):
        for month in months:
            row = {"funding_time": [month.time_range.start], "rate": [1e-4]}
            for symbol in symbols:
                table = pa.table(row, schema=FUNDING_SCHEMA)
                FundingStore(settings.funding).write_month(symbol, month, table, synthetic=True)

    return fund


@pytest.fixture
def whole(store_months, fund):
    """Store all that there is until now."""
    store_months(APRIL, MAY, JUNE)
    store_months(APRIL, MAY, JUNE, marks=True)
    fund(APRIL, MAY, JUNE)


def record(settings, cause, first, last, *, source="bybit", symbol="ETHUSDT", checked=JUST):
    gap = Gap(parse_instant(first), parse_instant(last), cause, checked, checked)
    ledger = Ledger(settings.warehouse, source, Interval.HOUR_1)
    ledger.replace_open_gaps({symbol: [gap]})


def test_an_empty_home_asks_for_the_whole_history_of_the_recipe(due):
    assert due() == (APRIL, JUNE)


def test_within_a_month_only_that_month_is_refreshed(due, whole):
    assert due() == (JUNE, JUNE)


@pytest.mark.parametrize("tick", ["2024-06-01T00:02:00Z", "2024-06-01T03:02:00Z"])
def test_just_after_a_month_ends_its_trailing_candles_are_read_again(due, store_months, tick):
    store_months(Month(2024, 4), MAY)
    assert due(tick) == (MAY, JUNE)


def test_after_a_pause_the_run_begins_where_the_candles_end(due, store_months):
    store_months(Month(2024, 3))
    store_months(APRIL, absent=range(100, 720))
    assert due() == (APRIL, JUNE)


def test_a_new_symbol_brings_its_whole_history(due, store_months):
    store_months(APRIL, MAY, JUNE, symbols=["BTCUSDT"])
    assert due() == (APRIL, JUNE)


def test_a_symbol_listed_late_is_not_asked_for_again_and_again(due, settings, store_months):
    store_months(APRIL, MAY, JUNE, symbols=["BTCUSDT"])
    store_months(JUNE, symbols=["ETHUSDT"])
    record(settings, GapCause.BEFORE_LISTING, "2024-03-01", "2024-05-31T23:00Z")
    assert due() == (JUNE, JUNE)


def test_a_configured_first_month_is_kept_to(due):
    pipeline = PipelineResource(recipe="demo", symbols=["BTCUSDT"], start_month="2024-05")
    assert due(pipeline=pipeline, reference=True) == (MAY, JUNE)
    pipeline = PipelineResource(recipe="demo", symbols=["BTCUSDT"], start_month="2024-06")
    assert due(pipeline=pipeline, reference=True) == (JUNE, JUNE)


def test_a_month_that_is_absent_within_the_history_is_seen(due, store_months):
    store_months(APRIL, JUNE, symbols=["ETHUSDT"])
    store_months(APRIL, MAY, JUNE, symbols=["BTCUSDT"])
    assert due() == (MAY, JUNE)


def test_a_hole_that_is_on_no_record_is_seen(due, settings, store_months):
    store_months(APRIL, JUNE)
    store_months(MAY, absent=[5])
    assert due() == (MAY, JUNE)
    record(settings, GapCause.EXCHANGE_GAP, "2024-05-01T05:00Z", "2024-05-01T05:00Z")
    assert due() == (MAY, JUNE)  # one symbol's gap excuses no other
    record(
        settings, GapCause.EXCHANGE_GAP, "2024-05-01T05:00Z", "2024-05-01T05:00Z", symbol="BTCUSDT"
    )
    assert due() == (JUNE, JUNE)


def test_a_record_that_another_process_holds_leaves_the_current_month(
    due, store_months, monkeypatch
):
    def locked(_ledger):
        raise WarehouseLocked("held")

    monkeypatch.setattr(Ledger, "open_gaps", locked)
    assert due() == (JUNE, JUNE)
    assert due(reference=True) == (APRIL, JUNE)  # for want of funding


def test_a_reference_run_covers_the_month_before_too(due, whole):
    assert due(reference=True) == (MAY, JUNE)


def test_mark_prices_of_past_months_are_fetched_by_the_first_reference_run(due, store_months, fund):
    store_months(APRIL, MAY, JUNE)
    fund(APRIL, MAY, JUNE)
    assert due() == (JUNE, JUNE)
    assert due(reference=True) == (APRIL, JUNE)
    store_months(APRIL, MAY, JUNE, marks=True)
    assert due(reference=True) == (MAY, JUNE)


def test_funding_of_past_months_is_fetched_with_the_month_in_which_it_ended(
    due, store_months, fund
):
    store_months(APRIL, MAY, JUNE)
    store_months(APRIL, MAY, JUNE, marks=True)
    fund(APRIL, symbols=["BTCUSDT"])
    fund(APRIL, MAY, symbols=["ETHUSDT"])
    assert due(reference=True) == (APRIL, JUNE)


@pytest.mark.parametrize(
    ("cause", "source", "again"),
    [
        (GapCause.EXCHANGE_GAP, "bybit", True),
        (GapCause.MARKET_CLOSED, "bybit", True),
        (GapCause.EXCHANGE_GAP, "bybit mark price", True),
        (GapCause.BEFORE_LISTING, "bybit", False),
        (GapCause.DELISTED, "bybit", False),
    ],
)
def test_gaps_are_asked_for_again_once_a_day_by_reference_runs(
    due, whole, settings, cause, source, again
):
    at = ("2024-04-03T05:00Z", "2024-04-03T06:00Z")
    record(settings, cause, *at, source=source)
    assert due(reference=True) == (MAY, JUNE)
    record(settings, cause, *at, source=source, checked=NOW - 20 * HOUR)
    assert due(reference=True) == (APRIL if again else MAY, JUNE)
    assert due() == (JUNE, JUNE)


def test_a_gap_before_the_windows_is_left_alone(due, whole, settings):
    record(settings, GapCause.EXCHANGE_GAP, "2024-03-03", "2024-03-04", checked=0)
    assert due(reference=True) == (MAY, JUNE)


@pytest.mark.parametrize("marks", [False, True])
def test_a_stored_candle_that_cannot_be_is_read_again_by_a_reference_run(
    due, whole, store_months, marks
):
    store_months(APRIL, symbols=["ETHUSDT"], low=-1.0, marks=marks)
    assert due(reference=True) == (APRIL, JUNE)
    assert due() == (JUNE, JUNE)


def test_funding_that_cannot_be_read_is_asked_for_again(due, whole, settings):
    path = FundingStore(settings.funding).path("ETHUSDT", MAY)
    path.write_bytes(path.read_bytes()[:-20])
    assert due(reference=True) == (APRIL, JUNE)
