"""An asset that is late turns yellow, then red, as Dagster's own evaluator sees it."""

import asyncio
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.freshness_evaluator import FRESHNESS_EVALUATORS_BY_POLICY_TYPE
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from flash_pipeline.bybit import BybitClient
from flash_pipeline.definitions import defs
from flash_pipeline.defs.checks.freshness import features_are_fresh, forecasts_are_fresh
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.market import parse_instant
from flash_pipeline.settings import Settings
from flash_pipeline.storage.warehouse import open_warehouse

MADE = datetime(2026, 7, 1, 12, 3, tzinfo=UTC)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance, freeze_time(MADE):
        yield instance


def state(instance, name, later):
    """Return the freshness of an asset so long after `MADE`."""
    node = defs.resolve_asset_graph().get(dg.AssetKey(name))
    evaluator = FRESHNESS_EVALUATORS_BY_POLICY_TYPE[type(node.freshness_policy_or_from_metadata)]()
    with freeze_time(MADE + later):
        context = LoadingContextForTest(instance)
        return asyncio.run(evaluator.evaluate_freshness(context=context, node=node))


def test_nothing_is_known_of_an_asset_that_was_never_made(instance):
    assert state(instance, "forecasts", timedelta(hours=1)) is FreshnessState.UNKNOWN


@pytest.mark.parametrize("name", ["features", "forecasts", "champion"])
@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        (119, FreshnessState.PASS),
        (121, FreshnessState.WARN),
        (179, FreshnessState.WARN),
        (181, FreshnessState.FAIL),
    ],
)
def test_one_missed_hour_warns_and_two_fail(instance, name, minutes, expected):
    instance.report_runless_asset_event(dg.AssetMaterialization(name))
    assert state(instance, name, timedelta(minutes=minutes)) is expected


def test_a_new_materialization_turns_it_green_again(instance):
    instance.report_runless_asset_event(dg.AssetMaterialization("forecasts"))
    assert state(instance, "forecasts", timedelta(hours=5)) is FreshnessState.FAIL
    with freeze_time(MADE + timedelta(hours=5)):
        instance.report_runless_asset_event(dg.AssetMaterialization("forecasts"))
    assert state(instance, "forecasts", timedelta(hours=6)) is FreshnessState.PASS


def test_reference_data_may_be_eight_hours_old(instance):
    instance.report_runless_asset_event(dg.AssetMaterialization("tickers"))
    assert state(instance, "tickers", timedelta(hours=8, minutes=5)) is FreshnessState.PASS
    assert state(instance, "tickers", timedelta(hours=17)) is FreshnessState.FAIL


def fresh(instance, check, *, read_at, **overrides):
    """Return what a check of the data's own time finds, the exchange having been read then."""
    clocks = {BybitClient.name: parse_instant(read_at)}
    instance.report_runless_asset_event(
        dg.AssetMaterialization("klines", metadata={"clocks": dg.MetadataValue.json(clocks)})
    )
    symbols = overrides.pop("symbols", ["BTCUSDT"])
    result = dg.materialize(
        [check],
        instance=instance,
        raise_on_error=False,
        resources={"pipeline": PipelineResource(recipe="demo", symbols=symbols, **overrides)},
        selection=dg.AssetSelection.checks(check),
    )
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


@pytest.fixture
def home():
    """A home with a row of features, and a forecast, of the candle from 11 to 12 o'clock."""
    settings = Settings.from_environment()
    settings.require_home()
    opened = parse_instant("2026-07-01T11:00:00Z")
    with open_warehouse(settings.warehouse) as connection:
        connection.execute(
            f"CREATE TABLE features AS SELECT 'BTCUSDT' AS symbol, {opened} AS start_time;"
            f"CREATE TABLE forecasts AS SELECT {opened + 3_600_000} AS made_at"
        )


CHECKS = [features_are_fresh, forecasts_are_fresh]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("read_at", "severity"),
    [
        ("2026-07-01T12:03:00Z", None),
        ("2026-07-01T12:58:00Z", None),
        ("2026-07-01T13:02:00Z", dg.AssetCheckSeverity.WARN),
        ("2026-07-01T14:02:00Z", dg.AssetCheckSeverity.ERROR),
    ],
)
def test_data_are_late_by_their_own_time(check, read_at, severity):
    with dg.DagsterInstance.ephemeral() as instance:
        found = fresh(instance, check, read_at=read_at)
    assert found.passed == (severity is None)
    if severity is not None:
        assert found.severity is severity
        assert found.description.startswith("the newest is of 2026-07-01T12:00Z, the exchange")


@pytest.mark.usefixtures("home")
def test_a_backfill_turns_the_policy_green_and_not_the_check(instance):
    instance.report_runless_asset_event(dg.AssetMaterialization("features", partition="2024-01"))
    assert state(instance, "features", timedelta(minutes=5)) is FreshnessState.PASS
    with dg.DagsterInstance.ephemeral() as other:
        assert not fresh(other, features_are_fresh, read_at="2026-07-02T12:03:00Z").passed


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("check", CHECKS)
def test_windows_that_end_in_the_past_by_intent_are_not_late(check):
    with dg.DagsterInstance.ephemeral() as instance:
        found = fresh(instance, check, read_at="2026-07-09T12:03:00Z", end_month="2026-07")
    assert found.passed
    assert found.description == "not checked: the windows of this run end with 2026-07"


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("check", CHECKS)
def test_shares_that_rest_at_night_are_not_late(monkeypatch, check):
    monkeypatch.setenv("FLASH_PIPELINE_YAHOO", "SPY=SPY")
    with dg.DagsterInstance.ephemeral() as instance:
        found = fresh(instance, check, read_at="2026-07-09T12:03:00Z", symbols=["SPY"])
    assert found.description == "not checked: no symbol is traded around the clock"
