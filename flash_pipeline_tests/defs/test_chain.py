"""The whole graph, from candles to forecasts, on a small simulated market."""

import base64
import io
import re
from pathlib import Path

import dagster as dg
import duckdb
import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.jobs import BACKFILL_JOB
from flash_pipeline.defs.lineage import LINEAGE, ROOTS
from flash_pipeline.market import Month, compact_utc, parse_instant
from flash_pipeline.training.tracking import CHALLENGER, CHAMPION, Registry
from flash_pipeline.windows import read_windows

ASSETS = (
    "instruments",
    "klines",
    "features",
    "funding",
    "mark_klines",
    "tickers",
    "window_tensors",
    "trained_model",
    "baselines",
    "backtest_report",
    "champion",
    "forecasts",
    "live_record",
)
LAST_CLOSE = parse_instant("2024-03-20T10:00:00Z")


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


def metadata(result, asset):
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset):
            return event.materialization.metadata
    raise AssertionError(f"{asset} was not materialized")


def files(home: Path) -> dict[str, tuple[int, int]]:
    kept = ("klines", "mark_klines", "funding", "windows", "reports")
    return {
        str(path.relative_to(home)): (path.stat().st_size, hash(path.read_bytes()))
        for folder in kept
        for path in sorted((home / folder).rglob("*"))
        if path.is_file()
    }


def rows(chain, table):
    with duckdb.connect(str(chain.settings.warehouse), read_only=True) as connection:
        return connection.execute(f"FROM {table} ORDER BY ALL").fetchall()


def test_every_asset_is_materialized_with_its_metadata(finished):
    _, result = finished
    assert {key for key in ASSETS if metadata(result, key)} == set(ASSETS)


def test_every_month_of_the_run_is_recorded_as_materialized(finished):
    chain, _ = finished
    for asset in ("klines", "features"):
        months = chain.instance.get_materialized_partitions(dg.AssetKey(asset))
        assert months == {"2024-02", "2024-03"}


def test_tables_tell_their_rows_and_columns(finished):
    _, result = finished
    candles = 2 * (29 * 24 + 19 * 24 + 10)
    for asset in ("klines", "features"):
        assert metadata(result, asset)["dagster/row_count"].value == candles
        assert metadata(result, asset)["dagster/column_schema"].schema.columns


@pytest.mark.parametrize(
    ("asset", "rows"),
    [
        ("klines", {"2024-02": 2 * 29 * 24, "2024-03": 2 * (19 * 24 + 10)}),
        ("features", {"2024-02": 2 * 29 * 24, "2024-03": 2 * (19 * 24 + 10)}),
        ("mark_klines", {"2024-02": 2 * 29 * 24, "2024-03": 2 * (19 * 24 + 10)}),
        ("funding", {"2024-02": 2 * 29 * 3, "2024-03": 2 * (19 * 3 + 2)}),
    ],
)
def test_each_month_tells_its_own_rows(finished, asset, rows):
    _, result = finished
    made = [
        event.materialization
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey(asset)
    ]
    told = {each.partition: each.metadata["dagster/partition_row_count"].value for each in made}
    assert told == rows


@pytest.mark.parametrize(
    ("asset", "entry"),
    [("trained_model", "loss"), ("backtest_report", "equity"), ("forecasts", "chart")],
)
def test_pictures_are_shown_where_a_person_would_look(finished, asset, entry):
    _, result = finished
    assert metadata(result, asset)[entry].value.startswith("![")
    assert "data:image/png;base64,iVBOR" in metadata(result, asset)[entry].value


def test_no_picture_is_wider_than_the_dialog_that_shows_it(finished):
    _, result = finished
    widths = {}
    for asset in ASSETS:
        for entry, value in metadata(result, asset).items():
            told = value.value if isinstance(value, dg.MarkdownMetadataValue) else ""
            for encoded in re.findall(r"\(data:image/png;base64,([^)]+)\)", told):
                with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
                    widths[f"{asset}/{entry}"] = image.width
    assert set(widths) >= {"trained_model/loss", "backtest_report/equity", "forecasts/chart"}
    assert max(widths.values()) <= 1000


def test_all_checks_pass(finished):
    _, result = finished
    checks = result.get_asset_check_evaluations()
    assert {check.check_name for check in checks} == {
        "klines_keep_the_contract",
        "klines_are_complete",
        "klines_are_plausible",
        "mark_klines_keep_the_contract",
        "mark_klines_are_complete",
        "funding_keeps_the_contract",
        "features_match_the_candles",
        "newest_window_is_fresh",
        "champion_does_not_leak",
        "forecasts_are_fresh",
        "features_are_fresh",
        "forecasts_are_unique",
        "live_forecasts_keep_the_backtests_promise",
        "features_have_not_drifted",
    }
    assert all(check.passed for check in checks)


def test_only_closed_candles_are_stored(finished):
    chain, _ = finished
    march = pq.read_table(
        chain.settings.klines / "symbol=BTCUSDT" / "month=2024-03.parquet", partitioning=None
    )
    assert march["start_time"][-1].as_py() == LAST_CLOSE - 3_600_000


def test_forecasts_are_stamped_with_the_last_close_of_the_exchange(finished):
    chain, _ = finished
    stored = rows(chain, "forecasts")
    assert [(row[0], row[1]) for row in stored] == [
        ("BTCUSDT", LAST_CLOSE),
        ("ETHUSDT", LAST_CLOSE),
    ]
    assert all(row[7] for row in stored), "a simulated market must be labelled"


def test_the_report_lies_in_a_folder_named_after_the_last_close(finished):
    chain, _ = finished
    folder = chain.settings.reports / compact_utc(LAST_CLOSE)
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.png",
        "metrics.json",
        "predictions.parquet",
    }


def test_the_first_model_is_champion_and_challenger(finished):
    chain, _ = finished
    registry = Registry(chain.settings)
    assert registry.require(CHAMPION).version == registry.require(CHALLENGER).version == "1"


def test_the_report_is_logged_to_the_run_of_the_model(finished):
    chain, _ = finished
    registry = Registry(chain.settings)
    run_id = registry.require(CHAMPION).run_id
    logged = {artifact.path for artifact in registry.client.list_artifacts(run_id, "report")}
    assert "report/report.html" in logged
    assert "backtest.total_return_fraction" in registry.client.get_run(run_id).data.metrics


def test_the_model_names_the_dagster_run_that_made_it(finished):
    chain, result = finished
    tags = Registry(chain.settings).require(CHAMPION).tags
    assert tags["dagster_run_id"] == result.run_id


def test_the_champion_predicts_through_mlflow(finished):
    chain, _ = finished
    frame = read_windows(chain.settings.windows)
    mlflow.set_tracking_uri(chain.settings.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/flash-attention-trader@champion")
    newest = frame.batch(np.array([len(frame.anchor_N) - 1]))
    predicted = model.predict(newest)["prediction"]
    stored = [row[5] for row in rows(chain, "forecasts")]
    np.testing.assert_allclose(predicted, stored, rtol=1e-5)


def test_a_second_run_adds_no_row_file_version_or_forecast(finished):
    chain, _ = finished
    tables = ("features", "forecasts", "promotions", "live_record")
    client = Registry(chain.settings).client
    before = files(chain.home), [rows(chain, table) for table in tables]
    versions = len(client.search_model_versions(""))
    result = chain.run()
    assert result.success
    assert (files(chain.home), [rows(chain, table) for table in tables]) == before
    assert len(client.search_model_versions("")) == versions


def test_a_run_leaves_nothing_outside_the_home(finished, tmp_path):
    assert not list(tmp_path.iterdir())
    assert not Path("mlruns").exists()


def test_the_report_names_everyone_who_traded_the_same_dates(finished):
    _, result = finished
    shown = metadata(result, "backtest_report")
    traders = [record.data["trader"] for record in shown["traders"].records]
    assert traders[:2] == ["challenger 1", "buy and hold"]
    assert traders[2:] == ["zero", "last_value", "seasonal", "ridge", "boosting", "dlinear"]
    assert isinstance(shown["verdict"], dg.MarkdownMetadataValue), "text does not wrap"
    assert shown["verdict"].value.endswith(
        "The market was synthetic: this says nothing about a real one."
    )


def test_funding_and_lots_of_the_same_run_are_in_the_report(finished):
    _, result = finished
    told = metadata(result, "backtest_report")["assumptions"].data
    assert told["Funding"] == "charged at settlement"
    assert told["Capital"] == "10,000 USDT, in whole lots"
    assert told["Trials"] == "1 model trained in the experiment; no other one has a backtest"


def test_the_page_and_the_picture_are_in_mlflow_and_named_as_mlflow_knows_them(finished):
    chain, result = finished
    registry = Registry(chain.settings)
    run_id = registry.require(CHAMPION).run_id
    place = metadata(result, "backtest_report")["report_in_mlflow"]
    assert place == dg.MetadataValue.text(f"runs:/{run_id}/report/report.html")
    assert Path(mlflow.artifacts.download_artifacts(place.text)).is_file()
    logged = {artifact.path for artifact in registry.client.list_artifacts(run_id, "report")}
    assert {"report/report.html", "report/report.png"} <= logged
    metrics = registry.client.get_run(run_id).data.metrics
    assert 0 <= metrics["backtest.deflated_sharpe_probability"] <= 1


ON_REQUEST = ("order_book_snapshots", "market_candles")
TABLES = tuple(
    name
    for name in (*ROOTS, *LINEAGE)
    if not name.startswith("walk_forward") and name not in ON_REQUEST
)


@pytest.mark.parametrize("asset", TABLES)
def test_lineage_names_columns_that_both_tables_have(finished, asset):
    _, result = finished
    columns = {name: _columns(result, name) for name in TABLES}
    for name, sources in LINEAGE.get(asset, {}).items():
        assert name in columns[asset]
        for source, named in sources.items():
            assert set(named) <= columns[source], f"{asset}.{name}"
    lineage = metadata(result, asset).get("dagster/column_lineage")
    assert (lineage is not None) == (asset in LINEAGE)


def _columns(result, asset):
    schema = metadata(result, asset)["dagster/column_schema"].schema
    return {column.name for column in schema.columns}


@pytest.mark.parametrize("asset", ASSETS)
def test_every_asset_shows_a_preview_and_a_figure_over_time(finished, asset):
    _, result = finished
    shown = metadata(result, asset).values()
    pictures = [v for v in shown if isinstance(v, dg.MarkdownMetadataValue)]
    assert pictures or [v for v in shown if isinstance(v, dg.TableMetadataValue)]
    assert [v for v in shown if isinstance(v, dg.IntMetadataValue | dg.FloatMetadataValue)]


@pytest.mark.parametrize(
    "asset", ["trained_model", "backtest_report", "champion", "forecasts", "live_record"]
)
def test_models_name_their_run_and_version_where_no_page_of_mlflow_is_known(finished, asset):
    chain, result = finished
    shown = metadata(result, asset)
    run_id = Registry(chain.settings).require(CHAMPION).run_id
    assert shown["mlflow_run"] == dg.MetadataValue.text(f"runs:/{run_id}")
    assert shown["registry_version"].text == "models:/flash-attention-trader/1"


def test_metadata_link_to_the_mlflow_ui_where_one_is_known(finished, monkeypatch):
    chain, _ = finished
    monkeypatch.setenv("FLASH_PIPELINE_MLFLOW_UI", "http://127.0.0.1:5001/")
    result = chain.run(assets=["backtest_report"])
    assert result.success, failure_reason(result)
    shown = metadata(result, "backtest_report")
    registry = Registry(chain.settings)
    run = registry.client.get_run(registry.require(CHALLENGER).run_id).info
    page = f"http://127.0.0.1:5001/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    assert shown["mlflow_run"].url == page
    assert shown["report_in_mlflow"].url == f"{page}/artifacts/report/report.html"
    assert shown["registry_version"].url == (
        "http://127.0.0.1:5001/#/models/flash-attention-trader/versions/1"
    )


def test_what_a_person_follows_over_time_are_numbers(finished):
    _, result = finished
    followed = {
        "klines": {"dagster/row_count", "requests", "missing_candles"},
        "features": {"dagster/row_count", "nulls"},
        "trained_model": {"train_loss", "validation_loss", "seconds"},
        "backtest_report": {"strategy/total_costs_fraction", "quality/rank_ic"},
        "baselines": {"seconds", "ridge/r2_against_zero"},
    }
    for asset, names in followed.items():
        shown = metadata(result, asset)
        numbers = (dg.IntMetadataValue, dg.FloatMetadataValue)
        assert {name for name in names if isinstance(shown.get(name), numbers)} == names


def test_what_hardly_ever_changes_is_text_and_no_flat_line_before_the_others(finished):
    _, result = finished
    still = {
        "window_tensors": {"horizon_bars": "24"},
        "trained_model": {"best_epoch": "1", "epochs": "1"},
        "baselines": {"fitted": "6 of 6"},
    }
    for asset, texts in still.items():
        shown = metadata(result, asset)
        assert {name: shown[name] for name in texts} == {
            name: dg.MetadataValue.text(text) for name, text in texts.items()
        }
    assert int(metadata(result, "trained_model")["parameters"].text) > 1000


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ({"backtest_report": {"fee_rate": 5.5}}, "config of backtest_report: fee_rate is 5.5"),
        ({"champion": {"level": 0.7}}, "config of champion: level is 0.7: input should be less"),
    ],
)
def test_a_wrong_value_of_a_late_asset_is_named_before_the_first_step(finished, ops, words):
    chain, _ = finished
    result = chain.run(ops=ops)
    assert words in failure_reason(result)
    assert not [event for event in result.all_events if event.is_step_start]


def test_years_are_backfilled_in_one_run_without_training(finished):
    chain, _ = finished
    result = chain.run((Month(2021, 11), Month(2024, 1)), job=BACKFILL_JOB)
    assert result.success, failure_reason(result)
    for asset in ("klines", "features", "funding", "mark_klines"):
        months = chain.instance.get_materialized_partitions(dg.AssetKey(asset))
        assert len(months) == 29, asset
