import math

import duckdb
import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.evaluation import (
    FORECASTS_TABLE,
    audit_forecasts,
    latest_forecasts,
    make_forecast,
    record_forecast,
)
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.market import Interval

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000
HOUR = Interval.HOUR_1


def hour(n):
    return FIRST_MS + n * HOUR_MS


@pytest.fixture
def at(make_store, make_frame):
    """Return a maker of the windows as they were after a number of hours."""
    return lambda bars, **store: make_frame(make_store(bars, **store))


def rows_of(warehouse, where="true"):
    query = f"SELECT * FROM {FORECASTS_TABLE} WHERE {where} ORDER BY made_at, model_version, symbol"
    return warehouse.sql(query).to_arrow_table().to_pylist()


def test_a_forecast_has_one_row_per_symbol_made_at_the_newest_close(at, make_bundle):
    frame, bundle = at(200), make_bundle()
    rows = make_forecast(frame, "3", bundle).to_pylist()
    newest = np.array([len(frame.anchor_N) - 1])
    predictions_S = predict_windows(frame, bundle, newest).value_NS[0]
    assert rows == [
        {
            "symbol": symbol,
            "made_at": hour(200),
            "interval": "60",
            "horizon": 4,
            "head": "regression",
            "prediction": float(prediction),
            "model_version": "3",
            "synthetic": True,
            "lower": None,
            "upper": None,
            "coverage": None,
        }
        for symbol, prediction in zip(frame.symbols, predictions_S, strict=True)
    ]


def test_the_forecast_of_a_quantile_head_is_its_median(at, make_bundle):
    frame, bundle = at(200), make_bundle(head="quantile")
    told = predict_windows(frame, bundle, np.array([len(frame.anchor_N) - 1]))
    rows = make_forecast(frame, "3", bundle).to_pylist()
    assert {row["head"] for row in rows} == {"quantile"}
    assert [row["prediction"] for row in rows] == told.quantiles_NSQ[0, :, 2].tolist()


def test_a_quantile_head_tells_its_outer_quantiles_and_what_they_should_cover(at, make_bundle):
    frame, bundle = at(200), make_bundle(head="quantile")
    told = predict_windows(frame, bundle, np.array([len(frame.anchor_N) - 1]))
    rows = make_forecast(frame, "3", bundle).to_pylist()
    assert [row["lower"] for row in rows] == told.quantiles_NSQ[0, :, 0].tolist()
    assert [row["upper"] for row in rows] == told.quantiles_NSQ[0, :, -1].tolist()
    assert [row["coverage"] for row in rows] == pytest.approx([0.9] * 3)


def test_a_record_from_before_the_quantiles_goes_on(at, make_bundle, warehouse):
    frame = at(200)
    record_forecast(warehouse, make_forecast(frame, "3", make_bundle()), HOUR)
    for name in ("lower", "upper", "coverage"):
        warehouse.execute(f"ALTER TABLE forecasts DROP COLUMN {name}")
    told = make_forecast(frame, "4", make_bundle(head="quantile"))
    record_forecast(warehouse, told, HOUR)
    assert [row["lower"] for row in rows_of(warehouse)] == [None] * 3 + told["lower"].to_pylist()


def test_a_symbol_whose_newest_bar_is_missing_gets_no_row(at, make_bundle):
    frame = at(200, absent={"ETHUSDT": {199}})
    rows = make_forecast(frame, "3", make_bundle()).to_pylist()
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "SOLUSDT"]


def test_a_model_with_a_shorter_lookback_forecasts_as_well(at, make_bundle):
    assert make_forecast(at(200), "3", make_bundle(lookback=8)).num_rows == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 5}, "5 bars ahead"),
        ({"lookback": 32}, "champion 3 needs 32 bars .* promote the challenger by hand"),
        ({"symbols": ("BTCUSDT", "ETHUSDT", "XRPUSDT")}, "BTCUSDT, ETHUSDT, XRPUSDT"),
        ({"feature_names": ("rsi",)}, "champion 3 takes the features rsi"),
        ({"interval": "30"}, "champion 3 takes candles of interval 30"),
        ({"synthetic": False}, "was trained on candles of another kind"),
    ],
)
def test_a_model_that_does_not_fit_the_windows_is_refused(at, make_bundle, change, message):
    with pytest.raises(BundleMismatch, match=message):
        make_forecast(at(200), "3", make_bundle(**change))


def test_a_model_that_has_seen_prices_after_the_newest_bar_makes_no_forecast(at, make_bundle):
    with pytest.raises(BundleMismatch, match=r"champion 3 has seen prices to .*look-ahead"):
        make_forecast(at(200), "3", make_bundle(seen_until=hour(200) + 1))


def test_a_model_that_has_seen_prices_just_up_to_the_newest_bar_forecasts(at, make_bundle):
    assert make_forecast(at(200), "3", make_bundle(seen_until=hour(200))).num_rows == 3


def test_a_forecast_is_recorded_with_its_return_unknown(at, make_bundle, warehouse):
    forecast = make_forecast(at(200), "3", make_bundle())
    record = record_forecast(warehouse, forecast, HOUR)
    assert (record.rows, record.scored) == (3, 0)
    assert rows_of(warehouse) == [{**row, "realised": None} for row in forecast.to_pylist()]


def test_recording_a_forecast_again_adds_nothing(at, make_bundle, warehouse):
    forecast = make_forecast(at(200), "3", make_bundle())
    record_forecast(warehouse, forecast, HOUR)
    before = rows_of(warehouse)
    assert record_forecast(warehouse, forecast, HOUR).rows == 3
    assert rows_of(warehouse) == before


def test_the_same_version_replaces_its_own_forecast_of_an_hour(at, make_bundle, warehouse):
    frame = at(200)
    record_forecast(warehouse, make_forecast(frame, "3", make_bundle()), HOUR)
    other = make_forecast(frame, "3", make_bundle(seed=1))
    record_forecast(warehouse, other, HOUR)
    assert [row["prediction"] for row in rows_of(warehouse)] == other["prediction"].to_pylist()


def test_another_versions_forecast_stands_beside(at, make_bundle, warehouse):
    frame = at(200)
    for version in ("3", "4"):
        record_forecast(warehouse, make_forecast(frame, version, make_bundle()), HOUR)
    assert [row["model_version"] for row in rows_of(warehouse)] == ["3"] * 3 + ["4"] * 3


def test_a_forecast_is_scored_once_its_horizon_has_passed(at, make_bundle, warehouse):
    bundle = make_bundle()
    record_forecast(warehouse, make_forecast(at(200), "3", bundle), HOUR)
    assert record_forecast(warehouse, make_forecast(at(203), "3", bundle), HOUR).scored == 0
    frame = at(204)
    assert record_forecast(warehouse, make_forecast(frame, "3", bundle), HOUR).scored == 3

    scored = rows_of(warehouse, "realised IS NOT NULL")
    assert {row["made_at"] for row in scored} == {hour(200)}
    n = frame.made_at_N.tolist().index(hour(200))
    assert [row["realised"] for row in scored] == pytest.approx(
        frame.label_NS[n].tolist(), rel=1e-6
    )


def test_the_return_is_that_of_the_closes_by_hand(at, make_store, make_bundle, warehouse):
    record_forecast(warehouse, make_forecast(at(200), "3", make_bundle()), HOUR)
    record_forecast(warehouse, make_forecast(at(204), "3", make_bundle()), HOUR)
    close_T = make_store().read_all("SOLUSDT")["close"].to_numpy()
    [row] = rows_of(warehouse, f"symbol = 'SOLUSDT' AND made_at = {hour(200)}")
    assert row["realised"] == pytest.approx(math.log(close_T[203] / close_T[199]))


def test_a_symbol_whose_later_bar_is_missing_stays_unscored(at, make_bundle, warehouse):
    bundle = make_bundle()
    record_forecast(warehouse, make_forecast(at(200), "3", bundle), HOUR)
    later = make_forecast(at(204, absent={"BTCUSDT": {203}}), "3", bundle)
    assert record_forecast(warehouse, later, HOUR).scored == 2
    [row] = rows_of(warehouse, f"symbol = 'BTCUSDT' AND made_at = {hour(200)}")
    assert row["realised"] is None


def test_a_score_is_kept_when_nothing_new_is_known(at, make_bundle, warehouse):
    bundle = make_bundle()
    record_forecast(warehouse, make_forecast(at(200), "3", bundle), HOUR)
    later = make_forecast(at(204), "3", bundle)
    record_forecast(warehouse, later, HOUR)
    before = rows_of(warehouse)
    assert record_forecast(warehouse, later, HOUR).scored == 0
    assert rows_of(warehouse) == before


def test_forecasts_of_another_interval_are_not_scored(at, make_bundle, warehouse):
    record_forecast(warehouse, make_forecast(at(200), "3", make_bundle()), HOUR)
    at(204)
    nothing = make_forecast(at(204), "3", make_bundle()).slice(0, 0)
    assert record_forecast(warehouse, nothing, Interval.MIN_30).scored == 0
    assert record_forecast(warehouse, nothing, HOUR).scored == 3


def test_a_recording_that_fails_changes_nothing(at, make_bundle, warehouse):
    frame = at(200)
    record_forecast(warehouse, make_forecast(frame, "3", make_bundle()), HOUR)
    before = rows_of(warehouse)
    warehouse.execute("ALTER TABLE features RENAME TO hidden")
    with pytest.raises(duckdb.CatalogException, match="features"):
        record_forecast(warehouse, make_forecast(frame, "3", make_bundle(seed=1)), HOUR)
    assert rows_of(warehouse) == before


def test_the_latest_forecast_of_each_symbol_is_that_of_the_newest_hour(at, make_bundle, warehouse):
    bundle = make_bundle()
    for bars in (200, 201):
        record_forecast(warehouse, make_forecast(at(bars), "3", bundle), HOUR)
    rows = latest_forecasts(warehouse).to_pylist()
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert {row["made_at"] for row in rows} == {hour(201)}


def test_the_latest_forecast_of_one_hour_is_that_of_the_newest_version(at, make_bundle, warehouse):
    frame = at(200)
    for version in ("9", "10"):
        record_forecast(warehouse, make_forecast(frame, version, make_bundle()), HOUR)
    assert set(latest_forecasts(warehouse)["model_version"].to_pylist()) == {"10"}


def test_the_latest_forecasts_of_some_symbols_alone_can_be_asked_for(at, make_bundle, warehouse):
    record_forecast(warehouse, make_forecast(at(200), "3", make_bundle()), HOUR)
    rows = latest_forecasts(warehouse, ["SOLUSDT", "XRPUSDT"])
    assert rows["symbol"].to_pylist() == ["SOLUSDT"]


def test_the_audit_finds_nothing_wrong_with_what_was_recorded(at, make_bundle, warehouse):
    frame = at(200)
    for version in ("3", "4", "3"):
        record_forecast(warehouse, make_forecast(frame, version, make_bundle()), HOUR)
    assert audit_forecasts(warehouse) == []


def test_the_audit_names_a_forecast_that_is_stored_twice(at, make_bundle, warehouse):
    record_forecast(warehouse, make_forecast(at(200), "3", make_bundle()), HOUR)
    warehouse.execute("INSERT INTO forecasts FROM forecasts WHERE symbol = 'ETHUSDT'")
    assert audit_forecasts(warehouse) == ["ETHUSDT at 2024-01-09T08:00Z, version 3: 2 rows"]
