"""The checks of candles and funding, on a home in which something is wrong."""

from datetime import UTC, datetime
from types import SimpleNamespace

import dagster as dg
import pyarrow as pa
import pytest

from flash_pipeline.defs.checks import market as checks
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.ingest import Ledger
from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.market import CANDLE_SCHEMA, FUNDING_SCHEMA, Interval, Month
from flash_pipeline.settings import Settings
from flash_pipeline.storage.funding import FundingStore
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
PIPELINE = PipelineResource(recipe="demo", symbols=["BTCUSDT"])
MONTH = Month.containing(int(datetime.now(UTC).timestamp() * 1000)).shift(-1)
"""A month gone by: a check alone, without a run, takes this machine's time for the clock."""


@pytest.fixture
def settings():
    return Settings.from_environment()


@pytest.fixture
def store_candles(settings):
    """Store the hours of the month but for the absent ones, all alike."""

    def store_candles(*, absent=(), **values):
        starts = [
            start
            for n, start in enumerate(MONTH.time_range.candle_starts(Interval.HOUR_1))
            if n not in absent
        ]
        row = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1.0, **values}
        columns = {name: pa.array([value] * len(starts)) for name, value in row.items()}
        turnover = pa.array([10.0] * len(starts))
        table = pa.table({"start_time": starts, **columns, "turnover": turnover}, CANDLE_SCHEMA)
        store = KlineStore(settings.klines, Interval.HOUR_1)
        store.write_month("BTCUSDT", MONTH, table, synthetic=True)

    return store_candles


def check(check, month=None):
    """Run one check alone, as from its own button, on the month of the run's tags."""
    tags = {} if month is None else {"dagster/partition": str(month)}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [check],
            instance=instance,
            tags=tags,
            raise_on_error=False,
            resources={"pipeline": PIPELINE},
            selection=dg.AssetSelection.checks(check),
        )
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_whole_sound_candles_pass(store_candles):
    store_candles()
    assert check(checks.klines_keep_the_contract).passed
    assert check(checks.klines_are_complete, MONTH).passed
    assert check(checks.klines_are_plausible, MONTH).passed


def test_a_broken_candle_is_an_error(store_candles):
    store_candles(low=10.5)
    found = check(checks.klines_keep_the_contract)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert "opens or closes outside low to high" in found.description


def test_a_hole_is_an_error_until_it_is_on_record(store_candles, settings):
    store_candles(absent=[5])
    found = check(checks.klines_are_complete, MONTH)
    assert not found.passed
    assert "1 candles unaccounted" in found.description
    start = MONTH.time_range.start + 5 * HOUR
    gap = Gap(start, start, GapCause.EXCHANGE_GAP, start, start)
    Ledger(settings.warehouse, "bybit", Interval.HOUR_1).replace_open_gaps({"BTCUSDT": [gap]})
    assert check(checks.klines_are_complete, MONTH).passed


def test_an_unlikely_open_is_a_warning(store_candles, settings):
    store_candles(open=9.1)
    found = check(checks.klines_are_plausible, MONTH)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.WARN
    assert "opens far from the close before" in found.description


def test_a_month_whose_file_is_gone_is_an_error():
    found = check(checks.klines_are_complete, MONTH)
    assert not found.passed
    assert "candles unaccounted" in found.description


def test_gaps_of_another_source_excuse_nothing(store_candles, settings):
    store_candles(absent=[5])
    start = MONTH.time_range.start + 5 * HOUR
    gap = Gap(start, start, GapCause.MARKET_CLOSED, start, start)
    Ledger(settings.warehouse, "yahoo", Interval.HOUR_1).replace_open_gaps({"BTCUSDT": [gap]})
    assert not check(checks.klines_are_complete, MONTH).passed
    other = Gap(start - HOUR, start - HOUR, GapCause.EXCHANGE_GAP, start, start)
    Ledger(settings.warehouse, "bybit", Interval.HOUR_1).replace_open_gaps({"BTCUSDT": [gap]})
    Ledger(settings.warehouse, "yahoo", Interval.HOUR_1).replace_open_gaps({"BTCUSDT": [other]})
    assert check(checks.klines_are_complete, MONTH).passed


def test_mark_prices_are_complete_by_their_own_record(settings):
    assert not check(checks.mark_klines_are_complete, MONTH).passed
    span = MONTH.time_range
    gap = Gap(span.start, span.end - HOUR, GapCause.BEFORE_LISTING, span.end, span.end)
    ledger = Ledger(settings.warehouse, "bybit mark price", Interval.HOUR_1)
    ledger.replace_open_gaps({"BTCUSDT": [gap]})
    assert check(checks.mark_klines_are_complete, MONTH).passed


@pytest.fixture
def read_at(monkeypatch):
    """Say when each source's clock was read."""

    def read_at(**clocks):
        metadata = {"clocks": dg.MetadataValue.json(clocks)}
        made = dg.AssetMaterialization("klines", metadata=metadata)
        event = SimpleNamespace(asset_materialization=made)
        monkeypatch.setattr(
            dg.DagsterInstance, "get_latest_materialization_event", lambda *_: event
        )

    return read_at


def test_a_candle_is_closed_by_the_clock_of_its_own_source(store_candles, read_at):
    store_candles()
    end = MONTH.time_range.end
    read_at(bybit=end, yahoo=end - 5 * HOUR)
    assert check(checks.klines_keep_the_contract).passed
    read_at(bybit=end - 5 * HOUR, yahoo=end)
    found = check(checks.klines_keep_the_contract)
    assert "5 candles not closed yet" in found.description


@pytest.mark.parametrize(
    ("hours", "rate", "severity"),
    [
        ([0, 8, 16], 1e-4, None),
        ([0, 8, 24, 32], 1e-4, dg.AssetCheckSeverity.WARN),
        ([0, 8, 16], 0.5, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_funding_with_a_hole_is_a_warning_and_a_broken_rate_an_error(
    settings, hours, rate, severity
):
    times = [MONTH.time_range.start + hour * HOUR for hour in hours]
    table = pa.table({"funding_time": times, "rate": [rate] * len(times)}, FUNDING_SCHEMA)
    FundingStore(settings.funding).write_month("BTCUSDT", MONTH, table, synthetic=True)
    found = check(checks.funding_keeps_the_contract)
    assert found.passed is (severity is None)
    assert severity is None or found.severity == severity
