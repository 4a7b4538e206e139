"""The chain run again after something has changed: the configuration, the exchange, the table."""

import dagster as dg
import pytest

from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.evaluation import read_promotions
from flash_pipeline.features import read_features
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.tracking import CHAMPION, Registry
from flash_pipeline.windows import read_windows
from flash_pipeline_tests.defs.conftest import MONTHS, small_chain

BOTH = ["BTCUSDT", "ETHUSDT"]
MARCH = Month(2024, 3)


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with small_chain(tmp_path_factory.mktemp("changes")) as chain:
        yield chain


def metadata(result, asset):
    (event,) = (
        event
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    )
    return event.materialization.metadata


@pytest.fixture(scope="module")
def begun(chain):
    """The chain after a run with both symbols."""
    result = chain.run(symbols=BOTH)
    assert result.success, failure_reason(result)
    return chain


@pytest.fixture(scope="module")
def refused(begun):
    """The run after that, with one of the symbols, which the champion does not predict alone."""
    return begun.run(symbols=BOTH[:1])


@pytest.fixture(scope="module")
def changed(begun, refused):
    """Return what two runs gave whose challenger was promoted by hand, with one symbol and both."""
    told = []
    for symbols in (BOTH[:1], BOTH):
        result = begun.run(symbols=symbols, ops={"champion": {"force": True, "who": "Ada"}})
        assert result.success, failure_reason(result)
        champion = Registry(begun.settings).require(CHAMPION)
        told.append((symbols, champion, champion.bundle.symbols, result))
    return told


def test_a_champion_of_other_symbols_keeps_its_place_and_the_run_says_what_to_do(begun, refused):
    assert failure_reason(refused) == (
        "forecasts failed: champion 1 predicts BTCUSDT, ETHUSDT (the windows: BTCUSDT): restore "
        "the configuration, use another FLASH_PIPELINE_HOME, or promote the challenger by hand "
        "(flash_pipeline promote)"
    )
    told = metadata(refused, "champion")
    assert told["version"].value == "1"
    assert not told["promoted"].value
    assert told["reason"].value == (
        "not comparable: champion 1 predicts BTCUSDT, ETHUSDT (the windows: BTCUSDT); promote it "
        "by hand if wanted (flash_pipeline promote)"
    )


def test_the_log_has_each_decision_with_who_took_it(begun, refused, changed):
    with open_warehouse(begun.settings.warehouse, read_only=True) as connection:
        rows = read_promotions(connection).to_pylist()
    told = [(row["action"], row["challenger"], row["champion"], row["forced"]) for row in rows]
    assert told == [
        ("promoted", "1", None, False),
        ("refused", "2", "1", False),
        ("promoted", "2", "1", True),
        ("promoted", "1", "2", True),
    ]
    assert rows[1]["who"] == f"run {refused.run_id}"
    assert [row["who"] for row in rows[2:]] == ["Ada", "Ada"]


@pytest.mark.parametrize("run", [0, 1])
def test_each_forecast_comes_from_a_model_of_its_own_symbols(changed, run):
    symbols, champion, model_symbols, result = changed[run]
    assert list(model_symbols) == symbols
    forecast = metadata(result, "forecasts")
    assert forecast["model_version"].value == champion.version
    rows = [record.data for record in forecast["forecast"].records]
    assert [row["symbol"] for row in rows] == symbols
    assert {row["model_version"] for row in rows} == {champion.version}


@pytest.mark.parametrize("run", [0, 1])
def test_a_promotion_by_hand_is_recorded_as_one(changed, run):
    _, champion, _, result = changed[run]
    assert metadata(result, "champion")["forced"].value
    assert champion.tags["promotion"].startswith("forced over champion")


def test_the_model_of_the_first_configuration_is_used_again(changed):
    assert [champion.version for _, champion, _, _ in changed] == ["2", "1"]


def test_every_forecast_that_is_stored_is_of_a_symbol_of_its_model(chain, changed):
    with open_warehouse(chain.settings.warehouse, read_only=True) as connection:
        stored = connection.execute(
            "SELECT model_version, symbol FROM forecasts ORDER BY ALL"
        ).fetchall()
    assert stored == [("1", "BTCUSDT"), ("1", "ETHUSDT"), ("2", "BTCUSDT")]


@pytest.fixture(scope="module")
def healed(chain, changed):
    """Return a run of the last month alone, after the features of the earlier one were lost."""
    february = MONTHS[0].time_range
    with open_warehouse(chain.settings.warehouse) as connection:
        before = read_features(connection, BOTH, february.start, february.end)
        connection.execute("DELETE FROM features WHERE start_time < ?", [february.end])
    result = chain.run((MARCH, MARCH))
    assert result.success, failure_reason(result)
    return before, result


def test_features_left_out_by_a_failed_run_are_computed_by_the_next(chain, healed):
    before, _ = healed
    with open_warehouse(chain.settings.warehouse, read_only=True) as connection:
        span = MONTHS[0].time_range
        after = read_features(connection, BOTH, span.start, span.end)
    assert before.num_rows == 2 * 29 * 24
    key = ["symbol", "start_time", "close", "volume"]
    assert after.select(key).equals(before.select(key))


def test_the_check_of_the_features_passes_after_they_are_healed(healed):
    _, result = healed
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert checks["features_match_the_candles"].passed


def test_windows_span_every_month_after_the_features_are_healed(chain, healed):
    start_time_T = read_windows(chain.settings.windows).start_time_T
    assert Month.containing(int(start_time_T[0])) == MONTHS[0]
    assert start_time_T[-1] == parse_instant("2024-03-20T09:00:00Z")


@pytest.mark.parametrize("synthetic", [True, False])
def test_instruments_are_untouched_where_the_exchange_is_of_the_other_kind(
    tmp_path, monkeypatch, synthetic
):
    monkeypatch.setattr(
        "flash_pipeline.bybit.client.BybitClient.is_synthetic", lambda _: not synthetic
    )
    row = dict.fromkeys(CANDLE_SCHEMA.names, 1.0) | {"start_time": MARCH.time_range.start}
    candles = CANDLE_SCHEMA.empty_table().from_pylist([row], schema=CANDLE_SCHEMA)
    with small_chain(tmp_path) as chain:
        settings = chain.settings
        store = KlineStore(settings.klines, Interval.HOUR_1)
        store.write_month("BTCUSDT", MARCH, candles, synthetic=synthetic)
        settings.instruments.write_bytes(b"as they were")
        reason = failure_reason(chain.run())
    assert f"holds {'simulated' if synthetic else 'real'} candles" in reason
    assert settings.instruments.read_bytes() == b"as they were"
