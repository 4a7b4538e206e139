"""A session on order books that is killed goes on, and ends as one that never was."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.training import book_models, book_session, loop
from flash_pipeline.training.book_models import JUDGED, thinned
from flash_pipeline.training.book_recipes import demo_book_recipe
from flash_pipeline.training.book_results import BookResults
from flash_pipeline.training.book_session import run_book_session
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline_tests.order_book.conftest import made_series

CPU = torch.device("cpu")
SERIES = made_series(400)


def recipe(**train):
    demo = demo_book_recipe()
    model = dataclasses.replace(
        demo.model, n_levels=3, history_length=4, d_model=16, d_ff=16, dropout=0.1
    )
    options = {"epochs": 2, "seeds": 2, "windows_per_epoch": 96, "checkpoint_minutes": 0.0, **train}
    training = dataclasses.replace(demo.train, **options)
    return dataclasses.replace(demo, model=model, train=training, stride=1, horizons=(1, 2, 3))


@pytest.fixture
def session(registry):
    """Return a function that runs the session in the registry's home."""

    def session(series=SERIES, *, force=True, **train):
        made = recipe(**train)
        return run_book_session(
            registry.settings, [series], made, synthetic=True, tags={}, force=force, device=CPU
        )

    return session


@pytest.fixture
def folder(registry):
    return registry.settings.checkpoints / "order_book"


@pytest.fixture
def killed_after(session, monkeypatch):
    """Return a function that kills a session at its n-th judgement of an epoch."""

    def killed_after(number):
        judged, losses = loop.evaluate, []

        def die(*arguments):
            losses.append(judged(*arguments))
            if len(losses) == number:
                raise KeyboardInterrupt
            return losses[-1]

        with monkeypatch.context() as patch:
            patch.setattr(loop, "evaluate", die)
            with pytest.raises(KeyboardInterrupt):
                session()

    return killed_after


def epochs(result):
    return {name: each["epochs"] for name, each in result.results.facts["trainings"].items()}


def resumed(result):
    return {name: each["resumed"] for name, each in result.results.facts["trainings"].items()}


def test_a_session_killed_in_its_last_training_ends_as_one_that_never_was(
    session, killed_after, folder, registry
):
    whole = session()
    assert list(folder.iterdir()) == []
    killed_after(6)  # both seeds of the joint model are done, one of two epochs of the axial one
    assert len(list(folder.iterdir())) == 3
    again = session()
    assert resumed(again)["axial"] == "after epoch 1, step 0"
    assert resumed(again)["joint"] == "after epoch 2, step 0"
    assert resumed(whole) == {"joint": None, "axial": None}
    assert epochs(again) == epochs(whole)
    for name, forecast_NH3 in whole.results.forecasts.items():
        np.testing.assert_array_equal(again.results.forecasts[name], forecast_NH3)
    assert list(folder.iterdir()) == [], "what is registered needs no checkpoint"
    run = registry.client.get_run(again.model.run_id)
    assert run.data.tags["resumed"] == "after epoch 2, step 0"


def test_a_session_killed_in_its_first_training_goes_on_there(session, killed_after):
    whole = session()
    killed_after(2)
    again = session()
    assert epochs(again) == epochs(whole)
    assert resumed(again)["axial"] is None


def test_what_was_not_registered_is_not_trained_again(session, monkeypatch, folder):
    def refuse(*_, **__):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(book_session, "register_sequence_model", refuse)
        with pytest.raises(OSError, match="disk full"):
            session()
    assert len(list(folder.iterdir())) == 3
    assert set(resumed(session()).values()) == {"after epoch 2, step 0"}


def versions(registry):
    return registry.client.search_model_versions("name = 'flash-order-book'")


@pytest.fixture
def killed_unstored(session, monkeypatch):
    """Kill a session between the registration of its model and the storing of its results."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(BookResults, "save", die)
        with pytest.raises(KeyboardInterrupt):
            session(force=False)


@pytest.mark.usefixtures("killed_unstored")
def test_a_session_killed_before_it_was_stored_has_one_version(session, folder, registry):
    (left,) = versions(registry)
    assert len(list(folder.iterdir())) == 3
    result = session(force=False)
    assert result.model.version == result.results.facts["version"] == str(left.version)
    assert [each.version for each in versions(registry)] == [left.version]
    assert "trained before" in session(force=False).story
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("killed_unstored")
def test_a_version_of_other_weights_is_not_taken_for_a_session(session, monkeypatch, registry):
    other = {"x": torch.zeros(1)}
    stored = GridBundle.load
    monkeypatch.setattr(
        GridBundle, "load", lambda path: dataclasses.replace(stored(path), weights=other)
    )
    assert session(force=False).model.version == "2"
    assert len(versions(registry)) == 2


def test_a_session_that_diverged_leaves_no_checkpoint(session, monkeypatch, folder):
    losses = iter([1.0, 1.0, 1.0, math.nan])
    monkeypatch.setattr(loop, "evaluate", lambda *_: next(losses))
    with pytest.raises(TrainingDiverged, match="epoch 2"):
        session()
    assert list(folder.iterdir()) == []


def test_checkpoints_of_another_session_go_and_the_price_models_stay(
    session, killed_after, folder, registry
):
    price = registry.settings.checkpoints / "abc.safetensors"
    killed_after(6)
    price.write_bytes(b"")
    left = set(folder.iterdir())
    session(seeds=1, epochs=1)
    assert not left & set(folder.iterdir())
    assert price.exists()


def test_a_garbled_checkpoint_is_left_aside_with_a_reason(session, killed_after, folder, caplog):
    killed_after(6)
    first = min(folder.iterdir(), key=lambda path: len(path.name))
    first.write_bytes(first.read_bytes()[:1000])
    result = session()
    assert f"checkpoint {first.name} is not used: it cannot be read" in caplog.text
    assert resumed(result)["axial"] == "after epoch 1, step 0"


def test_epochs_are_judged_by_so_many_windows_at_most_evenly(session, monkeypatch):
    seen = []
    evaluate = loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *a: seen.append(a[2]) or evaluate(*a))
    monkeypatch.setattr(book_models, "JUDGED", 20)
    facts = session(seeds=1, epochs=1).results.facts
    assert facts["judged"] == 20
    assert facts["windows"][1] > 20
    assert all(each["judged"] == 20 for each in facts["trainings"].values())
    joint_N, axial_N = seen
    np.testing.assert_array_equal(joint_N, axial_N)
    steps = np.diff(joint_N)
    assert steps.max() - steps.min() <= 1


def test_a_range_that_is_short_is_judged_whole():
    short_N = np.arange(100, 532)  # as many as the demo recipe's
    np.testing.assert_array_equal(thinned(short_N, JUDGED), short_N)
    long_N = thinned(np.arange(2_879), JUDGED)
    assert (len(long_N), long_N[0], long_N[-1]) == (512, 0, 2_878)


def test_a_checkpoint_of_other_books_is_another_ones(session, killed_after, monkeypatch, folder):
    killed_after(6)
    monkeypatch.setattr(Checkpoint, "remove_others", lambda _: None)
    other = session(made_series(400, seed=1))
    assert set(resumed(other).values()) == {None}
    assert len(list(folder.iterdir())) == 3  # its own are gone
