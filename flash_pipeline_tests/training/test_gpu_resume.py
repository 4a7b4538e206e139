"""Interruption, averages and switches on a CUDA device, where steps are captured."""

import itertools

import pytest
import torch

from flash_pipeline.training import loop
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import chronological_split
from flash_pipeline_tests.training.conftest import DENSE, tiny_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SIZE = {"d_model": 64, "n_heads": 2, "d_ff": 128, "dropout": 0.0, "epochs": 4}
EAGER, CAPTURED = {"compile": False}, {"compile": True}
KINDS = {
    "eager last": EAGER,
    "eager dense": {**EAGER, **DENSE},
    "eager dense, dropout": {**EAGER, **DENSE, "dropout": 0.1},
    "captured last": CAPTURED,
    "captured dense": {**CAPTURED, **DENSE},
    "captured dense, accumulated": {**CAPTURED, **DENSE, "accumulation": 2},
    "captured dense, dropout": {**CAPTURED, **DENSE, "dropout": 0.1},
}
EVERY_EPOCH, EVERY_STEP = 0.0, 1e-9  # minutes


@pytest.fixture
def run(frame, split, tmp_path):
    def run(*, keep=False, minutes=EVERY_EPOCH, on_epoch=lambda _: None, **changes):
        recipe = tiny_recipe(**{**SIZE, "ema_decay": 0.9, **changes})
        checkpoint = Checkpoint(tmp_path, "abc", "random weights", minutes) if keep else None
        return train(frame, split, recipe, on_epoch=on_epoch, checkpoint=checkpoint)

    return run


def die_at_the_third(epoch):
    if epoch.number == 3:
        raise KeyboardInterrupt


def require_equal_losses(one, other):
    for here, there in zip(one.history, other.history, strict=True):
        # Atomic additions in the backward pass leave the last bits of bf16 to chance.
        assert there.train_loss == pytest.approx(here.train_loss, rel=1e-2)
        assert there.validation_loss == pytest.approx(here.validation_loss, rel=1e-2)
        assert there.learning_rate == here.learning_rate


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_goes_on_with_the_losses_of_one_that_was_not(run, kind):
    whole = run(**KINDS[kind])
    assert whole.form == ("captured" if KINDS[kind]["compile"] else "eager: compile is False")
    with pytest.raises(KeyboardInterrupt):
        run(keep=True, on_epoch=die_at_the_third, **KINDS[kind])
    resumed = run(keep=True, **KINDS[kind])
    assert resumed.resumed == "after epoch 2, step 0"
    require_equal_losses(whole, resumed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_killed_within_an_epoch_goes_on_from_its_step(run, kind, monkeypatch):
    whole = run(**KINDS[kind])
    write = Checkpoint.write

    def write_and_die(self, state):
        write(self, state)
        if (len(state.history), state.step) == (1, 3):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "write", write_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(keep=True, minutes=EVERY_STEP, **KINDS[kind])
    resumed = run(keep=True, **KINDS[kind])
    assert resumed.resumed == "after epoch 1, step 3"
    require_equal_losses(whole, resumed)


def test_a_captured_step_learns_what_an_eager_one_does(run):
    captured, eager = run(**CAPTURED, **DENSE), run(**EAGER, **DENSE)
    for one, other in zip(captured.history, eager.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=2e-2)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=5e-2)


def test_a_captured_accumulation_learns_what_the_whole_batch_does(run):
    whole, parted = (run(**CAPTURED, **DENSE, accumulation=parts) for parts in (1, 4))
    require_equal_losses(whole, parted)


def test_a_short_training_is_not_captured_unless_that_is_asked_for(run):
    assert (
        run(epochs=1, **DENSE).form == "eager: 6 steps, expected 1500 or more for a capture to pay"
    )


@pytest.mark.parametrize("changes", [{}, DENSE, {"dropout": 0.1}])
def test_deterministic_trainings_give_the_same_bits(run, changes):
    one, other = (run(deterministic=True, compile=False, **changes) for _ in range(2))
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
    fetched = run(**CAPTURED, **DENSE)
    assert fetched.form == "eager: the panel does not fit the GPU"
    for one, other in zip(resident.history, fetched.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-2)


@pytest.fixture
def strict_steps(monkeypatch):
    """Let no step but the first few wait for the device; return a counter of their calls."""
    make_step, calls = loop.make_step, itertools.count()

    def strict_step(*arguments, **options):
        step = make_step(*arguments, **options)

        def strict(index_N):
            # The first calls compile, capture and make handles, which may wait.
            torch.cuda.set_sync_debug_mode("error" if next(calls) > 3 else "default")
            try:
                return step(index_N)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        strict.form, strict.attention = step.form, step.attention
        return strict

    monkeypatch.setattr(loop, "make_step", strict_step)
    return calls


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_no_step_waits_for_the_device(run, strict_steps, compiled, accumulation):
    run(compile=compiled, accumulation=accumulation, **DENSE)
    assert next(strict_steps) > 20


def test_no_step_over_masked_bars_waits_for_the_device(gapped_frame, strict_steps):
    recipe = tiny_recipe(**{**SIZE, **CAPTURED, **DENSE, "attention": "sdpa", "epochs": 12})
    trained = train(gapped_frame, chronological_split(gapped_frame, recipe.split), recipe)
    assert trained.form == "eager: some bar lacks every symbol, so that windows are masked"
    assert next(strict_steps) > 20
