"""Training through the registry: only where it must be, from the champion where it may be."""

import pytest

from flash_pipeline.errors import TrackingUnreachable, TrainingDiverged
from flash_pipeline.settings import Settings
from flash_pipeline.training import session
from flash_pipeline.training.session import run_training


@pytest.fixture
def train_now(registry, frame, split, make_recipe):
    def train_now(*, tags=None, force=False, warm_start=True, **recipe):
        return run_training(
            registry.settings,
            frame,
            split,
            make_recipe(epochs=1, warm_epochs=1, **recipe),
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


def test_a_cold_start_can_be_asked_for(registry, train_now):
    registry.point("champion", train_now().model.version)
    second = train_now(force=True, warm_start=False)
    assert second.story == "cold start"
    assert second.training.bundle.provenance.parent is None


def test_a_training_that_diverges_registers_nothing(registry, train_now, monkeypatch):
    def diverge(*_, **__):
        raise TrainingDiverged("epoch 1: training loss nan")

    monkeypatch.setattr(session, "train", diverge)
    with pytest.raises(TrainingDiverged):
        train_now()
    assert registry.at("challenger") is None


def test_nothing_is_trained_where_mlflow_does_not_answer(tmp_path, frame, split, make_recipe):
    settings = Settings(home=tmp_path, tracking_uri="file:///tmp/mlruns")
    with pytest.raises(TrackingUnreachable):
        run_training(settings, frame, split, make_recipe(), tags={})
