import math

import numpy as np
import pytest
import torch

from flash_pipeline.errors import OutOfMemory, TrainingDiverged
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.loop import evaluate, fit, predict
from flash_pipeline.training.optimizer import cosine
from flash_pipeline.training.runtime import seeded
from flash_pipeline_tests.training.conftest import DENSE


@pytest.fixture
def run(batches, split, make_recipe):
    """Return a function that fits a seeded tiny model: the model, its history, its old weights."""

    def run(*, epochs=3, on_epoch=lambda *_: None, **changes):
        recipe = make_recipe(**changes)
        with seeded(recipe.train.seed):
            model = FlashAttentionTrader(recipe.model)
            before = {name: weight.clone() for name, weight in model.state_dict().items()}
            fitted = fit(
                model,
                batches,
                split.train_N,
                split.validation_N,
                recipe.train,
                epochs=epochs,
                on_epoch=lambda epoch: on_epoch(model, epoch),
            )
        return model, list(fitted.history), before

    return run


def test_the_weights_kept_are_those_of_the_best_epoch(run, batches, split):
    def spoil_the_later_epochs(model, epoch):
        if epoch.number == 3:
            torch.nn.init.constant_(model.head.linear.bias, 5.0)

    model, history, _ = run(epochs=5, on_epoch=spoil_the_later_epochs)
    losses = [epoch.validation_loss for epoch in history]
    assert losses.index(min(losses)) == 2
    assert evaluate(model, batches, split.validation_N) == losses[2]


def test_every_epoch_is_told_as_it_ends(run):
    told = []
    _, history, _ = run(epochs=3, on_epoch=lambda _, epoch: told.append(epoch))
    assert told == history
    assert [epoch.number for epoch in history] == [1, 2, 3]


def test_the_learning_rate_of_each_step_is_that_of_the_schedule(run):
    # One step per epoch.
    _, history, _ = run(epochs=40, windows_per_epoch=2, learning_rate=1e-3)
    rates = [epoch.learning_rate for epoch in history]
    assert rates == [1e-3 * cosine(step, 40) for step in range(40)]


@pytest.mark.parametrize(("epochs", "share"), [(1, 1.0), (40, 0.5)])
def test_the_first_step_is_a_share_of_the_warm_up(run, epochs, share):
    stepped = {}

    def remember(model, epoch):
        if epoch.number == 1:
            stepped.update({k: w.clone() for k, w in model.state_dict().items()})

    _, _, before = run(
        epochs=epochs, windows_per_epoch=2, weight_decay=0.0, learning_rate=1e-3, on_epoch=remember
    )
    # AdamW's first step moves a weight by the learning rate: it divides by the gradient.
    moved = max((weight - before[name]).abs().max().item() for name, weight in stepped.items())
    assert moved == pytest.approx(share * 1e-3, rel=1e-2)


def test_gradients_are_clipped_and_their_norm_is_told_as_it_was(run):
    loose, loose_history, _ = run(epochs=1, batch_size=1000, weight_decay=0.0)
    # So short a gradient that AdamW's epsilon outweighs it.
    tight, tight_history, before = run(epochs=1, batch_size=1000, weight_decay=0.0, clip_norm=1e-14)
    assert tight_history[0].gradient_norm == loose_history[0].gradient_norm > 1e-3
    for name, weight in tight.state_dict().items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-7)
    assert not all(w.allclose(before[name]) for name, w in loose.state_dict().items())


def test_matrices_decay_and_biases_norms_and_positions_do_not(run):
    model, _, before = run(
        epochs=1, batch_size=1000, learning_rate=0.1, weight_decay=0.5, clip_norm=1e-14
    )
    for name, weight in model.state_dict().items():
        keep = 0.95 if weight.ndim > 1 and name != "positions" else 1.0
        torch.testing.assert_close(weight, before[name] * keep, rtol=1e-5, atol=1e-6)


@pytest.fixture
def drawn(batches, monkeypatch):
    """Return the lists of windows that are cut for training, as they are cut."""
    drawn = []
    cut = type(batches).batches

    def recorded(self, parts, **options):
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            drawn.extend(part.tolist() for part in parts)
        return cut(self, parts, **options)

    monkeypatch.setattr(type(batches), "batches", recorded)
    return drawn


def test_all_batches_have_one_size_and_a_pass_leaves_out_what_is_left_over(run, drawn):
    run(epochs=2, windows_per_epoch=70, batch_size=32)
    assert [len(part) for part in drawn] == [32, 32, 32, 32]


def test_a_pass_of_fewer_windows_than_a_batch_is_one_step(run, drawn):
    run(epochs=2, windows_per_epoch=5, batch_size=32)
    assert [len(part) for part in drawn] == [5, 5]


def test_a_pass_goes_through_training_windows_once_in_another_order_each(run, split, drawn):
    run(epochs=2, batch_size=32)
    steps = len(split.train_N) // 32
    one, other = ([n for part in parts for n in part] for parts in (drawn[:steps], drawn[steps:]))
    for seen in (one, other):
        assert len(seen) == len(set(seen)) == steps * 32
        assert set(seen) <= set(split.train_N.tolist())
    assert one != other
    assert one != sorted(one)
    assert set(one) != set(other), "other windows are left over in each pass"


def test_a_step_goes_through_its_micro_batches(run, drawn):
    run(epochs=1, windows_per_epoch=32, batch_size=32, accumulation=4)
    assert [len(part) for part in drawn] == [8, 8, 8, 8]


@pytest.mark.parametrize("changes", [{}, DENSE])
def test_accumulation_changes_no_more_than_rounding(run, changes):
    _, whole, _ = run(epochs=2, dropout=0.0, **changes)
    _, parted, _ = run(epochs=2, dropout=0.0, accumulation=4, **changes)
    for one, other in zip(whole, parted, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-4)


def test_activation_checkpointing_changes_nothing_but_memory(run):
    _, history, _ = run(epochs=2, dropout=0.2)
    _, again, _ = run(epochs=2, dropout=0.2, activation_checkpointing=True)
    for one, other in zip(history, again, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-6)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training_with_its_epoch_and_step(run, poison):
    def spoil(model, epoch):
        if epoch.number == 2:
            torch.nn.init.constant_(model.head.linear.bias, poison)

    told = []
    message = r"epoch 3, step 1 of \d+: the loss is (nan|inf): .*lower the learning rate"
    with pytest.raises(TrainingDiverged, match=message):
        run(epochs=5, on_epoch=lambda m, e: (spoil(m, e), told.append(e.number)))
    assert told == [1, 2]


def test_the_step_named_is_the_first_that_is_not_finite(run, drawn, batches, monkeypatch):
    cut = type(batches).batches

    def spoiled(self, parts, **options):
        for x_NLI, valid_NL, y in cut(self, parts, **options):
            yield x_NLI, valid_NL, y + math.inf if len(drawn) == 4 else y

    monkeypatch.setattr(type(batches), "batches", spoiled)
    with pytest.raises(TrainingDiverged, match="epoch 1, step 4 of 6: the loss is inf"):
        run(epochs=1)


def test_a_validation_loss_that_is_not_finite_stops_the_training_too(run, batches, monkeypatch):
    monkeypatch.setattr("flash_pipeline.training.loop.evaluate", lambda *_: math.inf)
    with pytest.raises(TrainingDiverged, match="epoch 1, validation after step 6: the loss is inf"):
        run(epochs=1)


def full(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_lack_of_memory_is_told_with_the_step_that_it_happened_in(run, batches, monkeypatch):
    monkeypatch.setattr(type(batches), "batches", full)
    with pytest.raises(OutOfMemory, match="a step on 32 windows x 8 bars"):
        run(epochs=1)


@pytest.mark.parametrize("changes", [{}, DENSE])
def test_a_lack_of_memory_in_the_validation_is_told_too(run, monkeypatch, changes):
    monkeypatch.setattr(FlashAttentionTrader, "last_outputs", full)
    monkeypatch.setattr("flash_pipeline.training.passes.stream_windows", full)
    with pytest.raises(OutOfMemory, match=r"a pass without gradients over \d+ windows x 8 bars"):
        run(epochs=1, **changes)


def test_the_averaged_weights_are_the_ones_judged_and_kept(run, batches, split):
    told = []
    model, history, _ = run(
        epochs=1, ema_decay=0.9, on_epoch=lambda m, _: told.append(m.head.linear.weight.clone())
    )
    assert not told[0].equal(model.head.linear.weight), "training goes on from its own weights"
    assert evaluate(model, batches, split.validation_N) == history[0].validation_loss


def test_the_average_does_not_touch_the_training(run):
    _, plain, _ = run(epochs=3)
    _, averaged, _ = run(epochs=3, ema_decay=0.9)
    assert [e.train_loss for e in plain] == [e.train_loss for e in averaged]
    assert [e.validation_loss for e in plain] != [e.validation_loss for e in averaged]


def test_a_dense_model_is_taught_at_every_bar_and_judged_at_the_last(run, batches, split):
    model, history, _ = run(epochs=3, dropout=0.0, **DENSE)
    assert history[-1].train_loss < history[0].train_loss
    x_NLI, valid_NL, y_NS = batches.batch(torch.from_numpy(split.validation_N))
    last_NS = model.eval()(x_NLI, valid_NL)[:, -1]
    judged = model.loss(last_NS, y_NS).item()
    assert evaluate(model, batches, split.validation_N) == pytest.approx(judged, rel=1e-5)


def test_the_evaluation_is_without_dropout(run, batches, split):
    model, _, _ = run(epochs=1, dropout=0.5)
    model.train()
    first, second = (evaluate(model, batches, split.validation_N) for _ in range(2))
    assert first == second


def test_the_evaluation_is_the_mean_over_windows_not_over_batches(run, batches, split, monkeypatch):
    model, _, _ = run(epochs=1)
    whole = evaluate(model, batches, split.train_N)
    monkeypatch.setattr("flash_pipeline.training.passes.MOST_WINDOWS", 64)
    assert len(split.train_N) % 64
    assert evaluate(model, batches, split.train_N) == pytest.approx(whole, rel=1e-5)


def test_predictions_follow_the_order_of_the_index(run, batches):
    model, _, _ = run(epochs=1)
    forward_NS = predict(model, batches, np.arange(10))
    backward_NS = predict(model, batches, np.arange(10)[::-1].copy())
    np.testing.assert_allclose(forward_NS, backward_NS[::-1], rtol=1e-4, atol=1e-6)
