"""A walk of portfolio trainings that is killed goes on, and ends as one that never was."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flash_pipeline.errors import InvalidConfig, TrainingDiverged
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.portfolio import walk_forward
from flash_pipeline.training import portfolio_fit
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.portfolio_fit import MarketTensors, fit_portfolio
from flash_pipeline.training.portfolio_session import Decisions, run_portfolio, train_portfolio
from flash_pipeline_tests.portfolio.conftest import panel_of
from flash_pipeline_tests.training.test_portfolio_fit import HORIZON, recipe

CPU = torch.device("cpu")
STEPS = {"steps": 5, "validate_every": 2, "checkpoint_minutes": 0.0}


@pytest.fixture(scope="module")
def panel():
    return panel_of(hours=500, listed={"BBUSDT": 150}, gone={"CCUSDT": 380})


@pytest.fixture
def killed_at(monkeypatch):
    """Return a function that runs something and kills it before its n-th training step."""

    def killed_at(number, run):
        step, done = portfolio_fit._step, []

        def die(*arguments):
            done.append(1)
            if len(done) == number:
                raise KeyboardInterrupt
            return step(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(portfolio_fit, "_step", die)
            with pytest.raises(KeyboardInterrupt):
                run()

    return killed_at


@pytest.fixture
def fitted(panel, tmp_path):
    """Return a function that fits one model with dropout, with or without a checkpoint."""

    def fitted(*, keep=True, seed=1, start="random weights", clock=None, **train):
        made = recipe(**{**STEPS, **train})
        fold = walk_forward(panel, made.model.lookback, HORIZON, made.walk)[0]
        tensors = MarketTensors(panel, fold.train, HORIZON, made.train.least_hours, CPU)
        config = dataclasses.replace(made.config(len(panel.symbols), "joint"), dropout=0.2)
        more = {} if clock is None else {"clock": clock}
        minutes = made.train.checkpoint_minutes
        checkpoint = Checkpoint(tmp_path, "abc", start, minutes, **more) if keep else None
        return fit_portfolio(tensors, fold, config, made.train, seed, checkpoint)

    return fitted


def assert_equal(one, other):
    assert one.history == other.history
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name


@pytest.mark.parametrize(("number", "place"), [(3, "after step 2"), (4, "after step 2")])
def test_a_killed_training_ends_as_one_that_never_was(fitted, killed_at, number, place):
    killed_at(number, fitted)
    again = fitted()
    assert again.resumed == place
    assert_equal(again, fitted(keep=False))


def test_its_seconds_are_those_of_both_processes(fitted, killed_at):
    hour = iter(range(0, 10**7, 3600))
    killed_at(3, lambda: fitted(clock=lambda: next(hour)))  # read at the start and by the write
    assert 3600 < fitted().seconds < 3700


def test_it_goes_on_between_two_looks_too(fitted, killed_at):
    seconds = iter(range(0, 10_000, 60))
    killed_at(4, lambda: fitted(checkpoint_minutes=1.0, clock=lambda: next(seconds)))
    again = fitted()
    assert again.resumed == "after step 3"
    assert_equal(again, fitted(keep=False))


def test_a_killed_training_leaves_the_process_its_own_random_state(fitted, killed_at):
    killed_at(3, fitted)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fitted()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_garbled_checkpoint_is_left_aside_with_a_reason(fitted, killed_at, tmp_path, caplog):
    killed_at(3, fitted)
    path = tmp_path / "abc.safetensors"
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["losses"] += 1
    save_file(tensors, path, metadata=header)
    again = fitted()
    assert "its checksum is not that of its content" in caplog.text
    assert again.resumed is None
    assert_equal(again, fitted(keep=False))


def test_a_checkpoint_from_elsewhere_is_left_aside_with_a_reason(fitted, killed_at, caplog):
    killed_at(3, fitted)
    assert fitted(start="version 1").resumed is None
    assert "its start is 'random weights': expected 'version 1'" in caplog.text


def test_a_walk_goes_on_in_the_training_that_was_killed(panel, killed_at, tmp_path):
    made = recipe(**STEPS)

    def checkpoint():
        return Checkpoint(tmp_path, "abc", "random weights", 0.0)

    killed_at(5 + 5 + 4, lambda: train_portfolio(panel, made, checkpoint()))
    again = train_portfolio(panel, made, checkpoint()).decisions
    whole = train_portfolio(panel, made).decisions
    assert [fit["resumed"] for fit in again.facts["fits"]] == [
        "after step 5", "after step 5", "after step 2", None
    ]  # fmt: skip
    of_time = ("seconds", "resumed")
    one, other = (
        [{k: v for k, v in fit.items() if k not in of_time} for fit in each.facts["fits"]]
        for each in (again, whole)
    )
    assert one == other
    assert again.facts["chosen"] == whole.facts["chosen"]
    for key, weights_NA in whole.weights.items():
        np.testing.assert_array_equal(again.weights[key], weights_NA)
    np.testing.assert_array_equal(again.attention_AA, whole.attention_AA)


def test_what_is_registered_needs_no_checkpoint(registry, panel, killed_at):
    made, folder = recipe(**STEPS), registry.settings.checkpoints / "portfolio"

    def run():
        return run_portfolio(registry.settings, panel, made, tags={})

    killed_at(9, run)
    assert len(list(folder.iterdir())) == 2
    decisions, story, _ = run()
    assert story == "trained 4 models"
    assert decisions.facts["fits"][0]["resumed"] == "after step 5"
    assert list(folder.iterdir()) == []


def test_a_walk_killed_before_it_was_stored_has_one_version(registry, panel, monkeypatch):
    def run():
        return run_portfolio(registry.settings, panel, recipe(**STEPS), tags={})[0]

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Decisions, "save", die)
        with pytest.raises(KeyboardInterrupt):
            run()
    decisions = run()
    assert decisions.facts["version"] == "1"
    assert len(registry.client.search_model_versions("name = 'flash-portfolio'")) == 1


def test_a_walk_that_diverged_leaves_no_checkpoint(registry, panel):
    made = recipe(**STEPS, learning_rate=1e30)
    with pytest.raises(TrainingDiverged):
        run_portfolio(registry.settings, panel, made, tags={})
    assert list(registry.settings.checkpoints.glob("*/*")) == []


def test_another_panel_begins_anew_and_removes_what_was_left(registry, panel, killed_at):
    made, folder = recipe(**STEPS), registry.settings.checkpoints / "portfolio"
    killed_at(9, lambda: run_portfolio(registry.settings, panel, made, tags={}))
    left = set(folder.iterdir())
    other = panel_of(hours=500, seed=1)
    killed_at(9, lambda: run_portfolio(registry.settings, other, made, tags={}))
    assert not left & set(folder.iterdir())


def test_a_time_below_zero_is_refused():
    with pytest.raises(InvalidConfig, match="checkpoint_minutes is -1"):
        recipe(checkpoint_minutes=-1)


def test_a_resumed_model_is_a_model_in_evaluation_mode(fitted, killed_at):
    killed_at(3, fitted)
    model = fitted().model
    assert isinstance(model, PortfolioModel)
    assert not model.training
