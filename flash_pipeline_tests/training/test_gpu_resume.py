"""Interruption, averages and switches on a CUDA device, where steps are captured."""

import itertools

import pytest
import torch

from flash_pipeline.training import loop
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.trainer import train
from flash_pipeline_tests.training.conftest import DENSE, tiny_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZE = {"d_model": 64, "n_heads": 2, "d_ff": 128, "dropout": 0.0, "epochs": 4}
KINDS = {
    "eager last": {"compile": False},
    "eager dense": {"compile": False, **DENSE},
    "captured dense": DENSE,
    "captured dense, accumulated": {**DENSE, "accumulation": 2},
}


@pytest.fixture
def run(frame, split, tmp_path):
    def run(*, keep=False, on_epoch=lambda _: None, **changes):
        recipe = tiny_recipe(**SIZE, ema_decay=0.9, **changes)
        checkpoint = Checkpoint(tmp_path, "abc", "random weights", 5.0) if keep else None
        return train(frame, split, recipe, on_epoch=on_epoch, checkpoint=checkpoint)

    return run


def die_at_the_third(epoch):
    if epoch.number == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_goes_on_with_the_losses_of_one_that_was_not(run, kind):
    whole = run(**KINDS[kind])
    with pytest.raises(KeyboardInterrupt):
        run(keep=True, on_epoch=die_at_the_third, **KINDS[kind])
    resumed = run(keep=True, **KINDS[kind])
    assert resumed.resumed == "after epoch 2, step 0"
    for one, other in zip(whole.history, resumed.history, strict=True):
        # Atomic additions in the backward pass leave the last bits of bf16 to chance.
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-2)
        assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-2)
        assert other.learning_rate == one.learning_rate


def test_a_captured_step_learns_what_an_eager_one_does(run):
    captured, eager = run(**DENSE), run(compile=False, **DENSE)
    for one, other in zip(captured.history, eager.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=2e-2)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=5e-2)


def test_deterministic_trainings_give_the_same_bits(run):
    one, other = (run(deterministic=True, compile=False, **DENSE) for _ in range(2))
    assert one.history == other.history
    for name, weight in one.bundle.weights.items():
        assert weight.equal(other.bundle.weights[name])


def test_activation_checkpointing_changes_no_more_than_rounding(run):
    one, other = (run(activation_checkpointing=a, compile=False, **DENSE) for a in (False, True))
    for kept, again in zip(one.history, other.history, strict=True):
        assert kept.train_loss == pytest.approx(again.train_loss, rel=1e-2)


def test_a_panel_fetched_from_host_memory_trains_the_same(run, monkeypatch):
    resident = run(compile=False, **DENSE)
    monkeypatch.setattr("flash_pipeline.windows.dataset.RESIDENT_SHARE", 0.0)
    fetched = run(**DENSE)
    for one, other in zip(resident.history, fetched.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-2)


@pytest.mark.parametrize("compiled", [True, False])
def test_no_step_waits_for_the_device(run, monkeypatch, compiled):
    make_step = loop.make_step
    calls = itertools.count()

    def strict_step(*arguments):
        step = make_step(*arguments)

        def strict(index_N):
            # The first calls compile, capture and make handles, which may wait.
            torch.cuda.set_sync_debug_mode("error" if next(calls) > 3 else "default")
            try:
                return step(index_N)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return strict

    monkeypatch.setattr(loop, "make_step", strict_step)
    run(compile=compiled, **DENSE)
    assert next(calls) > 20
