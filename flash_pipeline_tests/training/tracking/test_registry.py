import dataclasses
import shutil
import sqlite3
from contextlib import closing

import mlflow
import pytest

from flash_pipeline.errors import BundleMismatch, ModelNotRegistered
from flash_pipeline.settings import Settings
from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
from flash_pipeline.training.tracking import Registry, open_model
from flash_pipeline.training.tracking.served import BUNDLE_ARTIFACT
from flash_pipeline.training.tracking.store import experiment_id, quiet_mlflow


@pytest.mark.parametrize("alias", ["champion", "challenger"])
def test_without_a_model_no_alias_stands_for_anything(registry, alias):
    assert registry.at(alias) is None


def test_without_its_alias_a_model_is_not_found(tracked):
    assert tracked.at("nobody") is None


def test_a_version_that_is_required_and_absent_is_named(registry):
    with pytest.raises(
        ModelNotRegistered, match="models:/flash-attention-trader@champion does not exist"
    ):
        registry.require("champion")


def test_a_version_is_found_by_its_fingerprint(tracked, tracked_model):
    assert tracked.find(tracked_model.tags["fingerprint"]) == tracked_model


def test_an_unknown_fingerprint_finds_nothing(tracked):
    assert tracked.find("0123456789abcdef") is None


def test_a_fingerprint_finds_nothing_in_an_empty_registry(registry):
    assert registry.find("0123456789abcdef") is None


@pytest.fixture
def versions(registry, tmp_path):
    """Return three versions without files, the second and the third of one fingerprint."""
    client = registry.client
    experiment = client.create_experiment("bare", artifact_location=(tmp_path / "bare").as_uri())
    run_id = client.create_run(experiment).info.run_id
    source = client.get_run(run_id).info.artifact_uri
    return [
        registry.register(source, run_id, {"fingerprint": mark}) for mark in ("old", "new", "new")
    ]


def test_the_newest_of_equal_trainings_is_found(registry, versions):
    assert registry.find("new") == versions[2]


def test_the_version_registered_last_is_the_challenger(registry, versions):
    assert registry.at("challenger") == versions[2]


def test_an_alias_moves_to_another_version(registry, versions):
    registry.point("champion", "1")
    assert registry.require("champion").version == "1"
    registry.point("champion", "2")
    assert registry.require("champion").version == "2"
    assert registry.require("champion").uri == "models:/flash-attention-trader/2"


def test_a_version_is_found_by_its_number(registry, versions):
    assert registry.version("2") == versions[1]


def test_a_number_that_no_version_has_is_named(registry, versions):
    with pytest.raises(ModelNotRegistered, match="models:/flash-attention-trader/9 does not exist"):
        registry.version("9")


def test_a_stored_model_that_can_be_read_opens(tracked_model, tracked):
    assert tracked.version(tracked_model.version).opened.symbols == ("BTCUSDT", "ETHUSDT")


@pytest.mark.parametrize("broken", ["load", "build_all"])
def test_a_stored_model_that_cannot_be_read_opens_to_the_reason(
    tracked, tracked_model, monkeypatch, broken
):
    def refuse(*_):
        raise BundleMismatch("it holds a bundle of format 1: expected 2")

    monkeypatch.setattr(ModelBundle, broken, refuse)
    opened = tracked.version(tracked_model.version).opened
    assert opened == UnreadableBundle("it holds a bundle of format 1: expected 2")


def test_a_stored_model_whose_files_are_gone_opens_to_the_reason(tracked, tracked_model, tmp_path):
    stored = shutil.copytree(tracked.settings.home, tmp_path / "home") / "mlflow.db"
    with closing(sqlite3.connect(stored)) as database, database:
        (place,) = database.execute("SELECT storage_location FROM model_versions").fetchone()
        gone = f"{place}/gone"
        database.execute("UPDATE model_versions SET storage_location = ?, source = ?", (gone, gone))
        database.execute("UPDATE logged_models SET artifact_location = ?", (gone,))
    opened = Registry(Settings(home=stored.parent)).version(tracked_model.version).opened
    assert isinstance(opened, UnreadableBundle)
    assert opened.reason.startswith("the files of models:/flash-attention-trader/1 are gone")


def test_a_store_that_does_not_answer_is_no_unreadable_model(tracked, tracked_model, monkeypatch):
    def fail(**_):
        raise OSError("the disk is away")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fail)
    with pytest.raises(OSError, match="away"):
        tracked.version(tracked_model.version).opened  # noqa: B018  (the access is the test)


def test_tags_are_added_to_a_version(registry, versions):
    registry.tag("3", {"promoted": "no"})
    assert registry.require("challenger").tags == {"fingerprint": "new", "promoted": "no"}


def test_a_report_is_logged_to_the_run_of_the_model(registry, versions, tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.html").write_text("<p>")
    for _ in range(2):
        registry.add_report(versions[0], folder, {"sharpe": 1.5}, made_at=1719788400000)
    history = registry.client.get_metric_history(versions[0].run_id, "backtest.sharpe")
    assert len(history) == 1, "the same report logged twice is one"
    run = registry.client.get_run(versions[0].run_id)
    assert run.data.metrics == {"backtest.sharpe": 1.5}
    stored = registry.client.list_artifacts(versions[0].run_id, "report")
    assert [artifact.path for artifact in stored] == ["report/report.html"]


def test_without_a_champion_a_challenger_has_no_rival(registry, versions):
    assert registry.rival_of(versions[2]) is None


def test_the_rival_of_a_challenger_is_the_champion(registry, versions):
    registry.point("champion", "1")
    assert registry.rival_of(versions[2]) == versions[0]


def test_the_rival_of_a_champion_is_the_one_that_it_replaced(registry, versions):
    registry.tag("3", {"rival": "2"})
    registry.point("champion", "3")
    assert registry.rival_of(registry.require("champion")) == versions[1]


@pytest.mark.parametrize("tags", [{}, {"rival": ""}])
def test_a_champion_that_replaced_none_has_no_rival(registry, versions, tags):
    registry.tag("3", tags)
    registry.point("champion", "3")
    assert registry.rival_of(registry.require("champion")) is None


def test_the_epochs_of_a_training_come_back_as_they_were_logged(tracked, tracked_model, training):
    assert tracked.history(tracked_model) == list(training.history)


def test_an_absent_version_is_told_without_the_stores_password(registry):
    registry.settings = Settings(
        home=registry.settings.home, tracking_uri="postgresql://me:secret@127.0.0.1:1/x"
    )
    with pytest.raises(ModelNotRegistered, match=r"postgresql://\*\*\*@127") as caught:
        registry.require("champion")
    assert "secret" not in str(caught.value)


def test_the_page_of_a_run_is_told_without_the_servers_password(registry, versions):
    registry.settings = Settings(
        home=registry.settings.home, tracking_uri="https://me:secret@mlflow.example"
    )
    assert registry.url(versions[0]).startswith("https://mlflow.example/#/experiments/")


def test_pages_are_those_of_the_ui_that_the_settings_name(registry, versions):
    first = versions[0]
    ui = "http://127.0.0.1:5001"
    registry.settings = dataclasses.replace(registry.settings, mlflow_ui=ui)
    experiment = registry.client.get_run(first.run_id).info.experiment_id
    page = f"{ui}/#/experiments/{experiment}/runs/{first.run_id}"
    assert registry.url(first) == page
    assert registry.report_url(first, "report.html") == f"{page}/artifacts/report/report.html"
    assert registry.version_url(first) == f"{ui}/#/models/flash-attention-trader/versions/1"


def test_without_a_known_ui_nothing_is_linked_to_but_named_as_mlflow_knows_it(registry, versions):
    first = versions[0]
    assert registry.url(first) == f"runs:/{first.run_id}"
    assert registry.report_url(first, "report.html") == f"runs:/{first.run_id}/report/report.html"
    assert registry.version_url(first) == first.uri == "models:/flash-attention-trader/1"


CODE = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Served(PythonModel):
    def predict(self, context, model_input: list[str], params=None):
        raise NotImplementedError


set_model(Served())
"""


def test_the_bundle_of_a_version_that_was_stored_as_code_is_read_and_the_code_is_not_run(
    registry, bundle, tmp_path
):
    code, folder = tmp_path / "served.py", tmp_path / BUNDLE_ARTIFACT
    code.write_text(CODE)
    folder.mkdir()
    bundle.save(folder)
    run = registry.client.create_run(experiment_id(registry.client, registry.settings))
    with quiet_mlflow(), mlflow.start_run(run_id=run.info.run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(code),
            artifacts={BUNDLE_ARTIFACT: str(folder)},
            pip_requirements=[],
        )
    old = registry.register(info.model_uri, run.info.run_id, {})
    assert old.opened.weights.keys() == bundle.weights.keys()
    with pytest.raises(BundleMismatch, match=r"names the loader 'mlflow\.pyfunc\.loaders"):
        open_model(old.uri)
