"""The walk-forward's assets, run as the job runs them: a run for each fold."""

import json
import os
import shutil

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from flash_pipeline.definitions import defs
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.jobs import JOB_NAME, WALK_FORWARD_JOB
from flash_pipeline.defs.lineage import LINEAGE
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.errors import ModelError
from flash_pipeline.evaluation import Terms
from flash_pipeline.evaluation.fold_rows import fold_rows
from flash_pipeline.evaluation.scores import SCORE_SCHEMA
from flash_pipeline.evaluation.walk_plan import load_plan
from flash_pipeline.evaluation.walkforward import describe_predictions, read_predictions
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.baselines import Ridge
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.training.tracking import Registry
from flash_pipeline.training.tracking.walks import WALK_FORWARDS

from .conftest import MONTHS, SMALL, serving, small_chain

PLAN = {"folds": 2, "models": ["zero", "ridge", "transformer"]}
ASSETS = ("walk_forward_plan", "walk_forward_folds", "walk_forward")
LOGGERS = {"console": {"config": {"log_level": "CRITICAL"}}}


class Walk:
    """A home with windows, and the job of the walk-forward over them."""

    def __init__(self, chain):
        self.chain, self.settings = chain, chain.settings
        self.url = os.environ["FLASH_PIPELINE_BYBIT_URL"]

    def cut_windows(self, **overrides):
        names = ("klines", "features", "window_tensors")
        result = self._run(JOB_NAME, names, overrides, tags=range_tags(*MONTHS))
        assert result.success, failure_reason(result)

    def run(self, fold=None, *, plan=None, assets=ASSETS, force=False, home=None, **overrides):
        ops = {
            "walk_forward_plan": {"config": {**PLAN, **(plan or {})}},
            "walk_forward_folds": {"config": {"force": force}},
        }
        chosen = {name: config for name, config in ops.items() if name in assets}
        return self._run(
            WALK_FORWARD_JOB, assets, overrides, home=home, partition_key=fold, ops=chosen
        )

    def _run(self, job, assets, overrides, *, home=None, ops=None, **how):
        with serving(home or self.settings.home, self.url):
            return defs.resolve_job_def(job).execute_in_process(
                instance=self.chain.instance,
                asset_selection=[dg.AssetKey(name) for name in assets],
                run_config={
                    "resources": {"pipeline": {"config": {**SMALL, **overrides}}},
                    "ops": ops or {},
                    "loggers": LOGGERS,
                },
                raise_on_error=False,
                **how,
            )


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    with small_chain(tmp_path_factory.mktemp("walk")) as chain:
        walk = Walk(chain)
        walk.cut_windows()
        yield walk


@pytest.fixture(scope="module")
def results(walk):
    """Both folds' runs."""
    return [walk.run("1"), walk.run("2")]


def materialized(result):
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}


def metadata(result, asset):
    (made,) = result.asset_materializations_for_node(asset)
    return {name: getattr(value, "records", value.value) for name, value in made.metadata.items()}


def test_each_fold_is_a_run_and_the_last_one_joins_them(results):
    assert all(result.success for result in results), [failure_reason(r) for r in results]
    assert materialized(results[0]) == {"walk_forward_plan", "walk_forward_folds"}
    assert materialized(results[1]) == {"walk_forward_plan", "walk_forward_folds", "walk_forward"}


def test_the_joined_table_has_every_model_over_both_folds(walk, results):
    table = read_predictions(walk.settings.walk_forward / "all.parquet")
    assert set(table["model"].to_pylist()) == set(PLAN["models"])
    assert set(table["fold"].to_pylist()) == {1, 2}
    meta = describe_predictions(table)
    assert [fold["snapshot"] for fold in meta.folds] == [meta.snapshot] * 2
    assert meta.folds[0]["test"]["to"] < meta.folds[1]["test"]["from"]


def test_the_metadata_shows_the_models_their_dates_and_a_picture(results):
    shown = metadata(results[1], "walk_forward")
    rows = {record.data["model"]: record.data for record in shown["models"]}
    assert set(rows) == set(PLAN["models"])
    assert "[" in rows["transformer"]["rank_ic"]
    scopes = [record.data["scope"] for record in shown["rank_ic_by_symbol_and_month"]]
    assert scopes == ["BTCUSDT", "ETHUSDT", "2024-02", "2024-03"]
    assert -1 <= shown["transformer/rank_ic"] <= 1
    assert "data:image/png" in shown["scores"]
    assert shown["snapshot"]
    assert shown["from"] < shown["to"]


def test_the_columns_of_folds_and_join_are_those_that_their_lineage_names(results):
    for asset in ("walk_forward_folds", "walk_forward"):
        shown = metadata(results[1], asset)
        columns = {column.name for column in shown["dagster/column_schema"].columns}
        assert set(LINEAGE[asset]) <= columns
        assert set(shown["dagster/column_lineage"].deps_by_column) == set(LINEAGE[asset])


def test_plan_and_folds_show_tables_and_figures(results):
    plan, fold = (metadata(results[1], f"walk_forward_{name}") for name in ("plan", "folds"))
    assert plan["fold_count"] == str(len(plan["ranges"])) == "2"
    assert " to " in plan["ranges"][0].data["test"]
    assert fold["seconds"] > 0
    assert {record.data["model"] for record in fold["measures"]} == set(PLAN["models"])


def test_the_scores_are_stored_too(walk, results):
    assert pq.read_schema(walk.settings.walk_forward / "scores.parquet").equals(SCORE_SCHEMA)


def test_the_check_of_flat_predictions_has_run_with_the_join_alone(results):
    assert results[0].get_asset_check_evaluations() == []
    (check,) = results[1].get_asset_check_evaluations()
    assert check.check_name == "predictions_are_not_flat"


def test_the_folds_are_runs_below_one_run_in_mlflow(walk, results):
    client = Registry(walk.settings).client
    experiment = client.get_experiment_by_name(WALK_FORWARDS).experiment_id
    runs = client.search_runs([experiment])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    below = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in below} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params["fold"] for run in below} == {"1", "2"}
    assert all("transformer.rank_ic" in run.data.metrics for run in below)
    assert all(run.data.params["test.from"] < run.data.params["test.to"] for run in below)
    assert "transformer.rank_ic.low" in parent.data.metrics
    assert parent.data.tags["snapshot"] == load_plan(walk.settings.walk_forward).snapshot
    assert client.search_registered_models() == []


def test_rows_for_the_report_are_one_per_fold(walk, results):
    plan = load_plan(walk.settings.walk_forward)
    frame = plan.windows()
    store = KlineStore(walk.settings.klines, frame.interval)
    rows = fold_rows(plan.joined, frame, store, Terms())
    assert [row.name for row in rows] == ["1", "2"]
    table = read_predictions(plan.joined)
    assert rows[0].first_made_at == min(table["made_at"].to_pylist())
    assert all(row.rank_ic_low <= row.rank_ic <= row.rank_ic_high for row in rows)
    assert all(abs(row.net_return_fraction) < 1 for row in rows)


def test_a_stored_fold_is_not_run_again(walk, results):
    before = (walk.settings.walk_forward / "fold-1.parquet").stat().st_mtime_ns
    again = walk.run("1", assets=["walk_forward_folds"])
    assert metadata(again, "walk_forward_folds")["story"].startswith("run before")
    assert (walk.settings.walk_forward / "fold-1.parquet").stat().st_mtime_ns == before


def test_a_fold_alone_is_run_again_on_the_windows_of_the_plan(walk, results):
    folder = walk.settings.walk_forward
    joined = (folder / "all.parquet").read_bytes()
    (folder / "fold-2.parquet").unlink()
    refused = walk.run(assets=["walk_forward"])
    assert "folds 2 of 2 are not stored" in failure_reason(refused)
    assert (folder / "all.parquet").read_bytes() == joined
    walk.cut_windows(months=1)
    retried = walk.run("2")
    assert metadata(retried, "walk_forward_plan")["story"].startswith("goes on with the windows")
    assert (folder / "all.parquet").read_bytes() == joined
    walk.cut_windows()


def test_a_fold_beyond_the_plan_is_refused(walk, results):
    beyond = walk.run("3", assets=["walk_forward_folds"])
    assert "fold 3 is none of this walk-forward: expected 1 to 2" in failure_reason(beyond)


def test_folds_too_short_are_refused_and_nothing_is_planned(walk, results):
    stored = json.loads((walk.settings.walk_forward / "plan.json").read_text())
    short = walk.run("1", plan={"history": 0.02, "fresh": True})
    assert "fold 1 has" in failure_reason(short)
    assert "training windows" in failure_reason(short)
    assert materialized(short) == set()
    assert json.loads((walk.settings.walk_forward / "plan.json").read_text()) == stored


def test_a_horizon_longer_than_the_test_range_is_refused(walk, results):
    stored = (walk.settings.walk_forward / "plan.json").read_text()
    walk.cut_windows(horizon=400)
    short = walk.run("1", plan={"fresh": True}, horizon=400)
    assert "with a horizon of 400 bars" in failure_reason(short)
    assert materialized(short) == set()
    assert (walk.settings.walk_forward / "plan.json").read_text() == stored
    walk.cut_windows()


def test_windows_of_another_recipe_are_refused(walk, results):
    other = walk.run("1", plan={"fresh": True}, lookback=16)
    assert "materialize window_tensors by it first" in failure_reason(other)


@pytest.mark.parametrize("bad", [{"folds": 0}, {"folds": 6}, {"embargo": -1}, {"history": 1.0}])
def test_a_configuration_out_of_its_bounds_is_refused(walk, bad):
    refused = walk.run("1", plan=bad)
    assert not refused.success
    assert materialized(refused) == set()


def test_an_unknown_model_is_refused(walk, results):
    assert "models oracle: expected some of zero" in failure_reason(
        walk.run("1", plan={"models": ["oracle"]})
    )


def test_a_fold_that_fails_stores_nothing_and_mlflow_says_why(walk, results, monkeypatch):
    def refuse(*_):
        raise ModelError("no such luck")

    monkeypatch.setattr(Ridge, "fit", refuse)
    folder = walk.settings.walk_forward
    before = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    failed = walk.run("1", assets=["walk_forward_folds"], force=True)
    assert "no such luck" in failure_reason(failed)
    assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == before
    client = Registry(walk.settings).client
    experiment = client.get_experiment_by_name(WALK_FORWARDS).experiment_id
    (run,) = client.search_runs([experiment], "attributes.status = 'FAILED'")
    assert run.data.tags["error"] == "ModelError: no such luck"
    assert run.data.tags["fold"] == "1"


def test_a_forced_fold_is_run_again_to_the_same_bytes(walk, results):
    path = walk.settings.walk_forward / "fold-1.parquet"
    before = path.read_bytes()
    again = walk.run("1", assets=["walk_forward_folds"], force=True)
    assert metadata(again, "walk_forward_folds")["story"] == "run"
    assert path.read_bytes() == before


def test_a_model_that_says_the_same_at_all_dates_is_alarmed_about(walk, tmp_path, monkeypatch):
    shutil.copytree(walk.settings.windows, tmp_path / "windows")
    monkeypatch.setattr(
        "flash_pipeline.evaluation.contenders.predict_windows",
        lambda frame, _, index_N: Predictions(
            np.full((len(index_N), len(frame.symbols)), 0.01, np.float32)
        ),
    )
    flat = walk.run("1", plan={"folds": 1, "models": ["zero", "transformer"]}, home=tmp_path)
    assert flat.success, failure_reason(flat)
    (check,) = flat.get_asset_check_evaluations()
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert check.description == "transformer: BTCUSDT, ETHUSDT"


def test_a_fold_without_a_plan_says_what_to_do(walk, tmp_path):
    alone = walk.run("1", assets=["walk_forward_folds"], home=tmp_path)
    assert "materialize walk_forward_plan first" in failure_reason(alone)


def test_the_definitions_load_as_a_whole():
    dg.Definitions.validate_loadable(defs)  # an asset and a job of one name would not
