import json
from pathlib import Path

import mlflow
import pytest

from flash_pipeline.training.tracking import track_training
from flash_pipeline.training.tracking.store import EXPERIMENT


@pytest.fixture
def run(tracked, tracked_model):
    return tracked.client.get_run(tracked_model.run_id)


def artifact(run, name):
    return Path(
        mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name)
    ).read_bytes()


def test_a_tracked_training_ends_finished_in_our_experiment(tracked, run):
    assert run.info.status == "FINISHED"
    assert tracked.client.get_experiment(run.info.experiment_id).name == EXPERIMENT


def test_every_field_of_the_recipe_is_a_parameter(run):
    parameters = run.data.params
    assert parameters["name"] == "tiny"
    assert parameters["model.n_layers"] == "1"
    assert parameters["train.learning_rate"] == "0.01"
    assert parameters["train.windows_per_epoch"] == "null"
    assert json.loads(parameters["data.symbols"]) == ["BTCUSDT", "ETHUSDT"]
    assert parameters["split.embargo"] == "0"


def test_every_epoch_has_its_metrics(tracked, run, training):
    for name in ("train_loss", "validation_loss", "learning_rate", "gradient_norm"):
        history = tracked.client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3]
        assert [metric.value for metric in history] == [getattr(e, name) for e in training.history]
    assert run.data.metrics["best_validation_loss"] == training.best.validation_loss


def test_the_recipe_is_kept_as_json(run, make_recipe):
    recipe = json.loads(artifact(run, "recipe.json"))
    assert recipe == json.loads(json.dumps(make_recipe().to_dict()))


def test_the_loss_is_kept_as_a_picture(run):
    assert artifact(run, "loss.png").startswith(b"\x89PNG")


def test_run_and_version_carry_the_same_facts(run, tracked_model, frame, make_recipe):
    expected = {
        "fingerprint": make_recipe().fingerprint(frame.snapshot),
        "snapshot": frame.snapshot,
        "recipe": "tiny",
        "dagster_run": "abc",
        "device": "cpu",
        "step": "eager: the device is cpu",
    }
    for tags in (run.data.tags, tracked_model.tags):
        assert expected.items() <= tags.items()
        assert {"git_commit", "package_version", "attention", "best_epoch", "parameters"} <= set(
            tags
        )


def test_one_version_is_registered_and_is_the_challenger(tracked, tracked_model, run):
    versions = tracked.client.search_model_versions("name = 'flash-attention-trader'")
    assert [version.version for version in versions] == [1]
    assert tracked_model.version == "1"
    challenger = tracked.at("challenger")
    assert challenger == tracked_model
    assert challenger.run_id == run.info.run_id


def test_the_registered_bundle_is_the_trained_one(tracked, bundle):
    again = tracked.require("challenger").bundle
    assert again.provenance == bundle.provenance
    assert all(again.weights[name].equal(weight) for name, weight in bundle.weights.items())


def test_the_stored_model_holds_no_pickle(tracked_home, tracked_model):
    stored = [path.suffix for path in tracked_home.glob("mlflow-artifacts/**/*") if path.is_file()]
    assert ".safetensors" in stored
    assert not {".pkl", ".pickle", ".pt", ".pth", ".bin"} & set(stored)


def test_a_training_that_fails_leaves_a_failed_run_and_no_version(registry, make_recipe):
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        track_training(registry, make_recipe(), "abc", {}) as tracked,
    ):
        raise RuntimeError("out of memory")
    run = registry.client.get_run(tracked.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "RuntimeError: out of memory"
    assert registry.client.search_model_versions() == []
    assert registry.at("challenger") is None


def test_a_training_that_is_interrupted_leaves_a_failed_run(registry, make_recipe):
    with (
        pytest.raises(KeyboardInterrupt),
        track_training(registry, make_recipe(), "abc", {}) as tracked,
    ):
        raise KeyboardInterrupt
    assert registry.client.get_run(tracked.run_id).info.status == "FAILED"


def test_a_run_left_open_by_a_killed_process_is_closed_as_killed(registry, make_recipe):
    with track_training(registry, make_recipe(), "abc", {}) as first:
        pass
    experiment = registry.client.get_run(first.run_id).info.experiment_id
    home = registry.client.get_run(first.run_id).data.tags["home"]
    stale = registry.client.create_run(experiment, tags={"home": home})
    other = registry.client.create_run(experiment, tags={"home": "/another/home"})
    with track_training(registry, make_recipe(), "abc", {}):
        assert registry.client.get_run(stale.info.run_id).info.status == "KILLED"
        assert registry.client.get_run(other.info.run_id).info.status == "RUNNING"
    assert registry.client.get_run(first.run_id).info.status == "FINISHED"


def test_a_run_is_open_while_its_training_goes_on(registry, make_recipe):
    with track_training(registry, make_recipe(), "abcdefghij", {}) as tracked:
        run = registry.client.get_run(tracked.run_id)
        assert run.info.status == "RUNNING"
        assert run.info.run_name == "tiny-abcdefgh"
