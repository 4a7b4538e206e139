import math

import numpy as np
import pytest
import torch

from flash_pipeline.errors import TrainingDiverged
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.loop import evaluate, fit, predict, seeded
from flash_pipeline.training.trainer import fit_scalers
from flash_pipeline.windows.dataset import WindowBatches

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batches(frame, split):
    features, targets = fit_scalers(frame, split)
    return WindowBatches(
        frame, features.transform(frame.x_BKSF), targets.transform(frame.y_BKS), CPU
    )


@pytest.fixture
def run(batches, split, make_recipe):
    """Return a function that fits a seeded tiny model: the model, its history, its old weights."""

    def run(*, epochs=3, on_epoch=lambda *_: None, **changes):
        recipe = make_recipe(**changes)
        with seeded(recipe.train.seed):
            model = FlashAttentionTrader(recipe.model)
            before = {name: weight.clone() for name, weight in model.state_dict().items()}
            history = fit(
                model,
                batches,
                split.train_N,
                split.validation_N,
                recipe.train,
                epochs=epochs,
                on_epoch=lambda epoch: on_epoch(model, epoch),
            )
        return model, history, before

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


def test_the_learning_rate_rises_then_falls_to_zero_along_a_half_cosine(run):
    # One step per epoch, and 40 steps have 2 of warm-up.
    _, history, _ = run(epochs=40, windows_per_epoch=2, learning_rate=1e-3)
    rates = [epoch.learning_rate for epoch in history]
    cosine = [0.5e-3 * (1 + math.cos(math.pi * (step - 2) / 38)) for step in range(2, 41)]
    assert rates == pytest.approx([1e-3, *cosine])
    assert rates[-1] == 0


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


def test_a_pass_draws_no_more_windows_than_asked_for(batches, run, monkeypatch):
    drawn = []
    batch = type(batches).batch

    def counted(self, index_N):
        drawn.append(len(index_N))
        return batch(self, index_N)

    monkeypatch.setattr(type(batches), "batch", counted)
    run(epochs=1, windows_per_epoch=40, batch_size=32)
    assert drawn[:2] == [32, 8]


def test_every_training_window_is_seen_once_per_pass(batches, split, run, monkeypatch):
    seen = []
    batch = type(batches).batch

    def recorded(self, index_N):
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            seen.extend(index_N.tolist())
        return batch(self, index_N)

    monkeypatch.setattr(type(batches), "batch", recorded)
    run(epochs=1)
    trained = seen[: len(split.train_N)]
    assert sorted(trained) == split.train_N.tolist()
    assert trained != split.train_N.tolist()
    assert sorted(seen[len(split.train_N) :]) == split.validation_N.tolist()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_training_with_its_epoch(run, poison):
    def spoil(model, epoch):
        if epoch.number == 2:
            torch.nn.init.constant_(model.head.linear.bias, poison)

    told = []
    with pytest.raises(TrainingDiverged, match=r"epoch 3: training loss .*lower the learning rate"):
        run(epochs=5, on_epoch=lambda m, e: (spoil(m, e), told.append(e.number)))
    assert told == [1, 2]


def test_an_infinite_label_stops_the_training(frame, split, batches, make_recipe):
    y_BKS = np.zeros_like(frame.y_BKS)
    y_BKS[0, 7, 0] = math.inf
    spoiled = WindowBatches(frame, np.nan_to_num(frame.x_BKSF), y_BKS, CPU)
    recipe = make_recipe()
    model = FlashAttentionTrader(recipe.model)
    with pytest.raises(TrainingDiverged, match=r"epoch 1: training loss (inf|nan)"):
        fit(model, spoiled, split.train_N, split.validation_N, recipe.train, epochs=2)


def test_the_evaluation_is_without_dropout(run, batches, split):
    model, _, _ = run(epochs=1, dropout=0.5)
    model.train()
    first, second = (evaluate(model, batches, split.validation_N) for _ in range(2))
    assert first == second


def test_the_evaluation_is_the_mean_over_windows_not_over_batches(run, batches, split, monkeypatch):
    model, _, _ = run(epochs=1)
    whole = evaluate(model, batches, split.train_N)
    monkeypatch.setattr("flash_pipeline.training.loop.EVALUATION_BATCH", 64)
    assert len(split.train_N) % 64
    assert evaluate(model, batches, split.train_N) == pytest.approx(whole, rel=1e-5)


def test_predictions_follow_the_order_of_the_index(run, batches):
    model, _, _ = run(epochs=1)
    forward_NS = predict(model, batches, np.arange(10))
    backward_NS = predict(model, batches, np.arange(10)[::-1].copy())
    np.testing.assert_allclose(forward_NS, backward_NS[::-1], rtol=1e-4, atol=1e-6)


def test_a_seeded_block_gives_the_random_state_back():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(3)
    assert torch.get_rng_state().equal(before)
    with seeded(7):
        assert torch.rand(3).equal(first)
