"""What MLflow keeps and what goes, with a real store: rows and files."""

import time
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest

from flash_pipeline.settings import Settings
from flash_pipeline.storage.retention import carry_out
from flash_pipeline.training.tracking import CHALLENGER, CHAMPION, MODEL_NAME, RIVAL_TAG
from flash_pipeline.training.tracking import pruning as module
from flash_pipeline.training.tracking.baselines import BASELINE_EXPERIMENT, NEWEST, baseline_name
from flash_pipeline.training.tracking.pruning import old_models
from flash_pipeline.training.tracking.sequences import (
    ORDER_BOOK_MODEL,
    PORTFOLIO_MODEL,
    settle_champion,
)
from flash_pipeline.training.tracking.store import experiment_id, quiet_mlflow
from flash_pipeline.training.tracking.walks import WALK_FORWARDS

LATER = 10_000


@pytest.fixture
def make_version(registry, tmp_path):
    """Return a maker of versions, each with a logged model and a run that has a report."""

    def make(rival="", *, ended=True):
        client = registry.client
        run = client.create_run(experiment_id(client, registry.settings))
        client.log_text(run.info.run_id, "x" * 1000, "report/report.html")
        client.log_metric(run.info.run_id, "loss", 1.0)
        with quiet_mlflow():
            model = client.create_logged_model(
                run.info.experiment_id, name="model", source_run_id=run.info.run_id
            )
            folder = Path(urlsplit(model.artifact_location).path)
            folder.mkdir(parents=True)
            (folder / "weights").write_bytes(b"w" * 5000)
            client.finalize_logged_model(model.model_id, "READY")
        if ended:
            client.set_terminated(run.info.run_id)
        tags = {"recipe": "demo", RIVAL_TAG: rival}
        return registry.register(model.model_uri, run.info.run_id, tags)

    return make


def plan(registry, **options):
    soon = int(time.time() * 1000) + LATER
    limits = {"keep": 1, "champions": 1, "models_before": soon, "runs_before": soon}
    return old_models(registry.settings, **{**limits, **options})


def prune(registry, **options):
    return carry_out(plan(registry, **options), dry_run=False)


def versions(registry):
    found = registry.client.search_model_versions(f"name = '{MODEL_NAME}'")
    return sorted((str(each.version) for each in found), key=int)


def rows(registry):
    """Return how many rows each table has of runs, models and their like."""
    store = registry.client._tracking_client.store
    tables = ("runs", "metrics", "latest_metrics", "tags", "logged_models", "model_version_tags")
    with store.engine.connect() as connection:
        return {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar()
            for name in tables
        }


def files(registry):
    return [path for path in registry.settings.mlflow_artifacts.rglob("*") if path.is_file()]


def test_old_versions_go_with_their_models_and_runs_rows_and_files(registry, make_version):
    for _ in range(4):
        last = make_version()
    registry.point(CHAMPION, last.version)
    pruning = prune(registry)
    assert pruning.failed == ()
    assert versions(registry) == ["4"]
    assert pruning.by_kind() == {"model version": (3, 15_000), "MLflow run": (3, 3_000)}
    left = rows(registry)
    assert (left["runs"], left["metrics"], left["logged_models"]) == (1, 1, 1)
    assert left["model_version_tags"] == 2
    assert len(files(registry)) == 2
    folders = {path.name for path in registry.settings.mlflow_artifacts.iterdir()}
    assert folders == {"models", last.run_id}, "no empty folder stays"


def test_a_dry_run_changes_nothing(registry, make_version):
    for _ in range(3):
        make_version()
    before = rows(registry), files(registry)
    assert len(carry_out(plan(registry), dry_run=True).items) == 4
    assert (rows(registry), files(registry)) == before


def test_aliases_their_rivals_and_champions_of_before_stay(registry, make_version):
    make_version()  # a champion too long ago
    make_version("1")
    make_version("2")
    make_version()  # never champion
    make_version("3")
    make_version()
    registry.point(CHAMPION, "3")
    registry.point(CHALLENGER, "5")
    registry.point("by-hand", "4")
    prune(registry, champions=1)
    assert versions(registry) == ["2", "3", "4", "5", "6"]
    assert registry.rival_of(registry.require(CHALLENGER)).version == "3"


def test_protected_young_and_newest_versions_stay(registry, make_version):
    for _ in range(4):
        make_version()
    registry.client.delete_registered_model_alias(MODEL_NAME, CHALLENGER)
    assert plan(registry, models_before=0, runs_before=0) == []
    prune(registry, keep=2, protected={MODEL_NAME: {"1"}, "flash-portfolio": {"2"}})
    assert versions(registry) == ["1", "3", "4"]


def test_a_kept_version_keeps_its_run_and_still_loads(registry, make_version, tracked):
    assert plan(tracked) == []
    assert tracked.require(CHALLENGER).bundle.symbols


def test_a_run_at_work_stays_and_so_does_the_child_of_one_that_stays(registry):
    client = registry.client
    experiment = experiment_id(client, registry.settings)
    parent = client.create_run(experiment)
    child = client.create_run(experiment, tags={"mlflow.parentRunId": parent.info.run_id})
    failed = client.create_run(experiment)
    client.set_terminated(child.info.run_id)
    client.set_terminated(failed.info.run_id, "FAILED")
    assert [item.name for item in plan(registry)] == [failed.info.run_id]


def test_other_experiments_are_not_touched(registry, make_version):
    client = registry.client
    foreign = client.create_run(client.create_experiment("someone-else"))
    client.set_terminated(foreign.info.run_id)
    client.delete_run(foreign.info.run_id)
    make_version()
    prune(registry)
    assert client.get_run(foreign.info.run_id).info.lifecycle_stage == "deleted"


STEPS = (
    (mlflow.MlflowClient, "delete_model_version_tag"),
    (mlflow.MlflowClient, "delete_model_version"),
    (mlflow.MlflowClient, "delete_run"),
    (module, "_remove_artifacts"),
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
def test_a_pruning_killed_at_any_step_is_ended_by_the_next(
    registry, make_version, monkeypatch, step, when
):
    for _ in range(3):
        make_version()
    owner, name = step
    real = getattr(owner, name)

    def killed(*arguments, **options):
        if when == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            prune(registry)
    assert prune(registry).failed == ()
    assert versions(registry) == ["3"]
    left = rows(registry)
    assert (left["runs"], left["logged_models"], left["model_version_tags"]) == (1, 1, 2)
    assert len(files(registry)) == 2
    assert plan(registry) == []


def test_a_home_without_models_stays_without(registry, tmp_path):
    assert plan(registry) == []
    nothing = Settings(home=tmp_path / "new")
    assert old_models(nothing, keep=1, champions=1, models_before=0, runs_before=0) == []
    assert not nothing.home.exists()


def test_old_baselines_go_with_their_runs_and_the_newest_of_each_stays(registry):
    client = registry.client
    experiment = experiment_id(client, registry.settings, BASELINE_EXPERIMENT)
    runs = []
    for _ in range(3):
        run = client.create_run(experiment)
        for kind in ("zero", "ridge"):
            with quiet_mlflow():
                model = client.create_logged_model(
                    experiment, name=kind, source_run_id=run.info.run_id
                )
            named = registry.named(baseline_name(kind))
            named.register(model.model_uri, run.info.run_id, {"a": "b"}, NEWEST)
        client.set_terminated(run.info.run_id)
        runs.append(run.info.run_id)
    went = prune(registry)
    names = sorted(item.name for item in went.items if item.kind == "model version")
    assert names == [f"flash-baseline-{kind}/{n}" for kind in ("ridge", "zero") for n in (1, 2)]
    for kind in ("zero", "ridge"):
        newest = registry.named(baseline_name(kind)).at(NEWEST)
        assert (newest.version, newest.run_id) == ("3", runs[2])
    assert [each.info.run_id for each in client.search_runs([experiment])] == runs[2:]
    assert len(client.search_logged_models([experiment])) == 2


@pytest.mark.parametrize("name", [ORDER_BOOK_MODEL, PORTFOLIO_MODEL])
def test_old_models_of_long_sequences_go_by_the_same_rules(registry, name):
    client, named = registry.client, registry.named(name)
    experiment = experiment_id(client, registry.settings, name)
    runs = []
    for _ in range(7):
        run = client.create_run(experiment)
        client.log_text(run.info.run_id, "x" * 1000, "report/report.html")
        with quiet_mlflow():
            model = client.create_logged_model(
                experiment, name="model", source_run_id=run.info.run_id
            )
        named.register(model.model_uri, run.info.run_id, {"kind": "grid"})
        client.set_terminated(run.info.run_id)
        runs.append(run.info.run_id)
    for champion, edge in (("1", None), ("3", (0.1, 0.2)), ("5", (0.1, 0.2))):
        settle_champion(registry.settings, name, champion, edge)
    went = prune(registry, keep=1, champions=1, protected={name: {"2"}})
    assert went.failed == ()
    gone = [item.name for item in went.items if item.kind == "model version"]
    assert gone == [f"{name}/{number}" for number in (1, 4, 6)]
    kept = {each.info.run_id for each in client.search_runs([experiment])}
    assert kept == {runs[number - 1] for number in (2, 3, 5, 7)}
    assert len(client.search_logged_models([experiment])) == 4
    assert len(files(registry)) == 4
    assert named.at(CHAMPION).version == "5"
    assert plan(registry, keep=1, champions=1, protected={name: {"2"}}) == []


def test_old_walk_forwards_go_with_their_folds_and_one_at_work_keeps_its_own(registry):
    client = registry.client
    experiment = experiment_id(client, registry.settings, WALK_FORWARDS)
    kept = set()
    for ended in (True, False):
        parent = client.create_run(experiment).info.run_id
        fold = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
        client.set_terminated(fold)
        if ended:
            client.set_terminated(parent)
        else:
            kept |= {parent, fold}
    prune(registry)
    assert {each.info.run_id for each in client.search_runs([experiment])} == kept


def test_the_chain_of_champions_is_walked_past_the_protected_ones(registry, make_version):
    for number in range(1, 8):
        make_version(str(number - 1) if number > 1 else "")
    registry.point(CHAMPION, "7")
    registry.point(CHALLENGER, "7")
    prune(registry, champions=3, protected={MODEL_NAME: {"7", "6"}})
    assert versions(registry) == ["3", "4", "5", "6", "7"]


def test_beside_a_server_a_run_is_marked_once(registry, make_version, monkeypatch):
    monkeypatch.setattr(module, "_hard_deleting_store", lambda _: None)
    for _ in range(3):
        make_version()
    assert prune(registry).by_kind()["MLflow run"][0] == 2
    assert plan(registry) == []
