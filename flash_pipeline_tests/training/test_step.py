"""One step: its gradients, its form, and what it does with a mask."""

import logging
import math
from types import SimpleNamespace

import pytest
import torch

from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training import captured, step
from flash_pipeline.training.optimizer import make_optimizer
from flash_pipeline.training.step import EagerStep, make_step
from flash_pipeline_tests.training.conftest import DENSE, tiny_recipe

CUDA = torch.device("cuda")
UNEVEN_N = torch.tensor([3, 30, 50, 51, 52, 53, 54, 55, 56, 57])
"""Windows of a gapped market of which the later ones know fewer labels."""


@pytest.fixture
def make_parts():
    """Return a maker of a seeded model in training, and its optimizer and configuration."""

    def make(**changes):
        recipe = tiny_recipe(**{"dropout": 0.0, "batch_size": 12, **changes})
        torch.manual_seed(0)
        model = FlashAttentionTrader(recipe.model).train()
        torch.nn.init.xavier_uniform_(model.head.linear.weight)
        return model, make_optimizer(model, recipe.train), recipe.train

    return make


def gradients(make_parts, batches, index_N, **changes):
    model, optimizer, config = make_parts(**changes)
    loss = EagerStep(model, batches, optimizer, config).differentiate(index_N)
    return loss, [weight.grad for weight in model.parameters()]


@pytest.mark.parametrize("head", ["regression", "direction", "quantile"])
@pytest.mark.parametrize("changes", [{}, DENSE], ids=["last", "dense"])
@pytest.mark.parametrize("accumulation", [2, 4, 12])
def test_micro_batches_of_unlike_labels_give_the_gradients_of_the_whole_batch(
    make_parts, gapped, head, changes, accumulation
):
    # Ten windows in four chunks are 3, 3, 3 and 1.
    known = gapped.batch(UNEVEN_N)[2].isfinite().sum(1)
    assert len(known.unique()) > 1
    whole = gradients(make_parts, gapped, UNEVEN_N, head=head, **changes)
    parted = gradients(
        make_parts, gapped, UNEVEN_N, head=head, accumulation=accumulation, **changes
    )
    torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-6)


def test_micro_batches_without_a_known_label_give_zeros(make_parts, gapped, monkeypatch):
    monkeypatch.setattr(gapped, "_y", torch.full_like(gapped._y, math.nan))
    loss, grads = gradients(make_parts, gapped, UNEVEN_N, accumulation=4)
    assert loss == 0
    assert all(grad.eq(0).all() for grad in grads)


@pytest.mark.parametrize("changes", [{}, DENSE], ids=["last", "dense"])
def test_a_step_over_masked_bars_is_that_of_the_models_own_pass(make_parts, gapped, changes):
    model, _, _ = make_parts(**changes)
    index_N = torch.tensor([38, 39, 90])
    x_NLI, valid_NL, y = gapped.batch(index_N, dense=bool(changes))
    expected = model.loss(model(x_NLI, valid_NL), y)
    loss, _ = gradients(make_parts, gapped, index_N, **changes)
    torch.testing.assert_close(loss, expected.detach())


def test_attention_is_chosen_once_and_no_mask_is_looked_at(make_parts, gapped, monkeypatch):
    model, optimizer, config = make_parts()
    own = make_step(model, gapped, optimizer, config)
    assert model.attention_choice == own.attention
    for name in ("choose_attention", "forward"):
        monkeypatch.setattr(FlashAttentionTrader, name, None)
    monkeypatch.setattr("flash_pipeline.model.trader.needed_mask", None)
    loss, _ = own(torch.tensor([1, 2, 39]))
    assert loss.isfinite()


def test_attention_is_chosen_for_training_and_leaves_the_mode(make_parts, batches, monkeypatch):
    seen = []

    def choose(self, *call):
        seen.append((self.training, call))

    monkeypatch.setattr(FlashAttentionTrader, "choose_attention", choose)
    model, _, _ = make_parts()
    step.step_attention(model.eval(), batches)
    assert seen == [(True, (batches.lookback, False))]
    assert not model.training


@pytest.fixture
def capturable(monkeypatch):
    """Pretend that nothing is against capturing."""

    class Captured:
        form = "captured"

        def __init__(self, *parts):
            pass

    monkeypatch.setattr(captured, "capture_refusal", lambda *_: None)
    monkeypatch.setattr(captured, "CapturedStep", Captured)


@pytest.mark.parametrize(
    ("compiled", "steps", "form"),
    [
        ("auto", 1499, "eager: 1499 steps, expected 1500 or more for a capture to pay"),
        ("auto", 1500, "captured"),
        ("auto", None, "captured"),
        (True, 1, "captured"),
        (False, 10**6, "eager: compile is False"),
    ],
)
def test_steps_are_captured_where_that_pays_or_is_asked_for(
    make_parts, batches, capturable, caplog, compiled, steps, form
):
    model, optimizer, config = make_parts(compile=compiled)
    with caplog.at_level(logging.INFO):
        made = make_step(model, batches, optimizer, config, steps=steps)
    assert made.form == form
    assert f"training steps: {form}" in caplog.messages


@pytest.mark.parametrize("compiled", ["auto", True])
def test_steps_that_cannot_be_captured_are_eager_and_say_why(make_parts, batches, compiled):
    model, optimizer, config = make_parts(compile=compiled)
    assert make_step(model, batches, optimizer, config).form == "eager: the device is cpu"


@pytest.mark.parametrize(
    ("changes", "name", "compiler", "reason"),
    [
        ({}, "flash_attn_4", None, None),
        ({"device": torch.device("cpu")}, "flash_attn_4", None, "the device is cpu"),
        ({"resident": False}, "flash_attn_4", None, "the panel does not fit the GPU"),
        ({"has_gaps": True}, "flash_attn_4", None, "some bar lacks every symbol"),
        ({}, "flex", None, "the attention is flex: expected one of flash_attn, flash_attn_4"),
        ({}, "flash_attn_4", "its compiler is missing", "its compiler is missing"),
    ],
)
def test_what_is_against_capturing_is_named(
    make_parts, monkeypatch, changes, name, compiler, reason
):
    batches = SimpleNamespace(
        **{"device": CUDA, "resident": True, "has_gaps": False, "lookback": 8, **changes}
    )
    monkeypatch.setattr(captured, "step_attention", lambda *_: SimpleNamespace(name=name))
    monkeypatch.setattr(captured, "compiler_refusal", lambda: compiler)
    model, _, _ = make_parts()
    told = captured.capture_refusal(model, batches)
    assert told is reason is None or told.startswith(reason)
