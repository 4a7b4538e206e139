"""Training through the registry: only where it must be, from the champion where it may be."""

import math

import mlflow
import numpy as np
import pytest
import torch

from flash_pipeline.errors import (
    BundleMismatch,
    InvalidInput,
    TrackingUnreachable,
    TrainingDiverged,
)
from flash_pipeline.settings import Settings
from flash_pipeline.training import loop
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.session import run_training
from flash_pipeline.training.tracking import Registry
from flash_pipeline.training.tracking.store import EXPERIMENT

EVERY_EPOCH = {"checkpoint_minutes": 0.0}


@pytest.fixture
def train_now(registry, frame, split, make_recipe):
    def train_now(*, tags=None, force=False, warm_start=True, **recipe):
        return run_training(
            registry.settings,
            frame,
            split,
            make_recipe(**{"epochs": 1, "warm_epochs": 1, **recipe}),
            tags=tags or {},
            force=force,
            warm_start=warm_start,
        )

    return train_now


def test_the_first_training_starts_cold_and_gives_the_challenger(registry, train_now):
    first = train_now(tags={"dagster_run": "abc"})
    assert first.story == "cold start: there is no champion"
    assert first.model == registry.at("challenger")
    assert first.model.tags["dagster_run"] == "abc"
    assert first.model.tags["start"] == first.story
    assert first.training.bundle.provenance.parent is None
    assert first.model.run_id in first.url


def test_an_equal_training_is_not_repeated_and_becomes_the_challenger_again(registry, train_now):
    first, other = train_now(), train_now(seed=59)
    assert registry.at("challenger") == other.model
    again = train_now()
    assert again.training is None
    assert again.model == first.model == registry.at("challenger")
    assert again.story == "trained before on exactly this data"


def test_a_forced_repetition_starts_from_the_champion_that_fits(registry, train_now):
    registry.point("champion", train_now().model.version)
    second = train_now(force=True)
    assert second.model.version == "2"
    assert second.story == "warm start from version 1"
    assert second.training.bundle.provenance.parent == "1"


def test_a_champion_that_does_not_fit_is_not_the_start_and_the_story_says_why(registry, train_now):
    registry.point("champion", train_now(d_ff=32).model.version)
    second = train_now()
    assert second.story.startswith("cold start: champion 1 cannot be used, it has another")
    assert second.training.bundle.provenance.parent is None


@pytest.fixture
def of_an_older_format(monkeypatch):
    """Return a function after which no bundle stored so far can be read."""

    def age():
        def refuse(folder):
            raise BundleMismatch(f"{folder} holds a bundle of format 1: expected 2")

        monkeypatch.setattr(ModelBundle, "load", refuse)

    return age


def test_a_champion_of_an_older_format_is_not_the_start_and_the_story_says_why(
    registry, train_now, of_an_older_format
):
    registry.point("champion", train_now().model.version)
    of_an_older_format()
    second = train_now(seed=59)
    assert second.story.startswith("cold start: champion 1 cannot be read, ")
    assert "holds a bundle of format 1: expected 2" in second.story
    assert second.training.bundle.provenance.parent is None
    assert second.model == registry.at("challenger")


def test_an_equal_training_of_an_older_format_is_repeated(registry, train_now, of_an_older_format):
    train_now()
    of_an_older_format()
    again = train_now()
    assert again.training is not None
    assert again.model.version == "2"


def test_a_cold_start_can_be_asked_for(registry, train_now):
    registry.point("champion", train_now().model.version)
    second = train_now(force=True, warm_start=False)
    assert second.story == "cold start"
    assert second.training.bundle.provenance.parent is None


def test_an_ensemble_is_one_version_that_is_served_as_a_whole(registry, train_now, frame):
    session = train_now(seeds=2)
    assert session.model.version == "1"
    assert session.model.tags["members"] == "2"
    assert len(session.model.bundle.member_weights) == 2
    assert session.history == tuple(registry.history(session.model))
    served = mlflow.pyfunc.load_model(session.model.uri)
    windows = frame.batch(np.arange(3))
    told_NS = Predictor(session.training.bundle).predict(windows)
    np.testing.assert_allclose(served.predict(windows), told_NS, rtol=1e-6)
    assert not list(registry.settings.checkpoints.glob("*"))


FAILURES = {
    "InvalidInput": (
        "flash_pipeline.training.trainer.window_batches",
        InvalidInput("the label of BTCUSDT at 2024-01-01T13:00Z is inf"),
        "the label of BTCUSDT",
    ),
    "OutOfMemory": (
        "flash_pipeline.training.step.EagerStep.__call__",
        torch.OutOfMemoryError("CUDA out of memory."),
        "a step on 32 windows x 8 bars",
    ),
    "TrainingDiverged": (
        "flash_pipeline.training.loop.evaluate",
        math.nan,
        "epoch 1, validation after step",
    ),
    "KeyboardInterrupt": (
        "flash_pipeline.training.loop.evaluate",
        KeyboardInterrupt(),
        "KeyboardInterrupt",
    ),
}
"""By the error that must come out: what fails, how, and words of the message."""


@pytest.mark.parametrize("name", FAILURES)
def test_a_training_that_fails_leaves_a_failed_run_with_its_reason_and_no_model(
    registry, train_now, monkeypatch, name
):
    place, cause, words = FAILURES[name]

    def fail(*_, **__):
        if isinstance(cause, BaseException):
            raise cause
        return cause

    monkeypatch.setattr(place, fail)
    with pytest.raises(BaseException, match=r".*") as caught:
        train_now()
    assert type(caught.value).__name__ == name
    (run,) = runs(registry)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith(f"{name}: ")
    assert words in run.data.tags["error"]
    assert registry.client.search_model_versions() == []
    assert registry.at("challenger") is None


def runs(registry):
    experiment = registry.client.get_experiment_by_name(EXPERIMENT)
    return registry.client.search_runs([experiment.experiment_id])


@pytest.fixture
def killed_once(registry, train_now, monkeypatch):
    """Kill a training of two epochs while its second is validated; return its checkpoint."""
    judged = loop.evaluate
    losses = []

    def die_at_the_second(*arguments):
        losses.append(judged(*arguments))
        if len(losses) == 2:
            raise KeyboardInterrupt
        return losses[-1]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            train_now(epochs=2, **EVERY_EPOCH)
    (checkpoint,) = registry.settings.checkpoints.iterdir()
    return checkpoint


def test_a_killed_training_goes_on_under_a_new_run_that_has_all_epochs(
    registry, train_now, killed_once
):
    resumed = train_now(epochs=2, **EVERY_EPOCH)
    assert resumed.training.resumed == "after epoch 1, step 0"
    assert resumed.model.tags["resumed"] == "after epoch 1, step 0"
    assert registry.history(resumed.model) == list(resumed.history)
    assert [epoch.number for epoch in resumed.history] == [1, 2]
    assert sorted(run.info.status for run in runs(registry)) == ["FAILED", "FINISHED"]
    assert not killed_once.exists(), "what is registered needs no checkpoint"
    whole = train_now(epochs=2, force=True, **EVERY_EPOCH)
    assert whole.model.tags["resumed"] == "no"
    assert whole.history == resumed.history


def test_a_failed_registration_keeps_the_training(registry, train_now, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "register", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            train_now(**EVERY_EPOCH)
    assert registry.client.search_model_versions() == []
    assert train_now(**EVERY_EPOCH).training.resumed == "after epoch 1, step 0"


def test_a_checkpoint_is_not_gone_on_from_once_the_champion_is_another(
    registry, train_now, killed_once, monkeypatch, caplog
):
    monkeypatch.setattr(Checkpoint, "remove_others", lambda _: None)
    registry.point("champion", train_now(epochs=2, seed=59).model.version)
    second = train_now(epochs=2, **EVERY_EPOCH)
    assert second.story == "warm start from version 1"
    assert second.training.resumed is None
    assert "its start is 'random weights': expected 'version 1'" in caplog.text


def test_the_checkpoint_of_another_training_goes_when_a_new_one_begins(train_now, killed_once):
    train_now(seed=59)
    assert not killed_once.exists()


def test_a_diverged_training_leaves_no_checkpoint(registry, train_now, monkeypatch):
    losses = iter([1.0, math.nan])
    monkeypatch.setattr(loop, "evaluate", lambda *_: next(losses))
    with pytest.raises(TrainingDiverged, match="epoch 2"):
        train_now(epochs=2, **EVERY_EPOCH)
    assert list(registry.settings.checkpoints.iterdir()) == []


def test_nothing_is_trained_where_mlflow_does_not_answer(tmp_path, frame, split, make_recipe):
    settings = Settings(home=tmp_path, tracking_uri="file:///tmp/mlruns")
    with pytest.raises(TrackingUnreachable):
        run_training(settings, frame, split, make_recipe(), tags={})
