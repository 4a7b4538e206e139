"""The estimate of a step's memory, and the error that tells it."""

import pytest
import torch

from flash_pipeline.errors import OutOfMemory
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.memory import memory_explained, step_bytes
from flash_pipeline.training.recipes import seed_recipe

GIB = 2**30
CUDA_SAYS = "CUDA out of memory. Tried to allocate 20.00 GiB.\nA second line."


def estimate(**changes):
    recipe = seed_recipe()
    model = {k: v for k, v in changes.items() if hasattr(recipe.model, k)}
    train = {k: v for k, v in changes.items() if k not in model}
    recipe = recipe.with_model(**model).with_training(**train)
    return step_bytes(recipe.model, recipe.train, 5_300_000, recipe.data.lookback)


def test_the_estimate_is_near_what_a_gpu_took():
    # The chapter's model, 16 windows of 2,048 bars: 2.4 GiB with flash attention, 27.6 GiB with
    # the reference, measured on an H200.
    assert estimate() == pytest.approx(2.4 * GIB, rel=0.1)
    assert estimate(attention="reference") == pytest.approx(27.6 * GIB, rel=0.1)


def test_accumulation_and_activation_checkpointing_take_less():
    fixed = 16 * 5_300_000
    assert estimate(accumulation=4) - fixed == pytest.approx((estimate() - fixed) / 4)
    assert estimate(activation_checkpointing=True) < 0.4 * estimate()


def failing(recipe):
    model = FlashAttentionTrader(recipe.model)
    with memory_explained(model, recipe.train, recipe.data.lookback):
        raise torch.OutOfMemoryError(CUDA_SAYS)


def test_a_lack_of_memory_names_batch_length_estimate_and_remedies(make_recipe):
    with pytest.raises(OutOfMemory) as caught:
        failing(make_recipe(batch_size=64, accumulation=2))
    message = str(caught.value)
    assert "a step on 32 windows x 8 bars (64 in 2 parts) takes about 0.0 GiB" in message
    assert "accumulation above 2 or activation_checkpointing=True" in message
    assert message.endswith("PyTorch: CUDA out of memory. Tried to allocate 20.00 GiB.")
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_remedy_that_is_taken_already_is_not_given_again(make_recipe):
    with pytest.raises(OutOfMemory) as caught:
        failing(make_recipe(activation_checkpointing=True, attention="reference"))
    assert "activation_checkpointing" not in str(caught.value)
    assert "another attention than 'reference'" in str(caught.value)


def test_an_allocation_head_is_not_told_to_accumulate(make_recipe):
    with pytest.raises(OutOfMemory, match="try batch_size below 32 or activation_checkpointing"):
        failing(make_recipe(head="allocation"))


def test_another_error_passes_as_it_is(make_recipe):
    model = FlashAttentionTrader(make_recipe().model)
    with pytest.raises(KeyError), memory_explained(model, make_recipe().train, 8):
        raise KeyError
