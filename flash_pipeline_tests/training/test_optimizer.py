"""AdamW, its learning rate and the schedule."""

import pytest
import torch

from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.optimizer import cosine, make_optimizer, set_rate


@pytest.fixture
def model(make_recipe):
    return FlashAttentionTrader(make_recipe().model)


def test_the_rate_rises_to_its_peak_and_falls_along_a_half_cosine():
    shares = [cosine(step, 40) for step in range(40)]  # 2 steps of warm-up
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[21] == pytest.approx(0.5)
    assert shares[2:] == sorted(shares[2:], reverse=True)
    assert 0 < shares[-1] < 0.01


def test_a_training_of_one_step_takes_it_at_the_peak():
    assert cosine(0, 1) == 1.0


def test_the_rate_that_is_set_is_the_one_of_the_next_step(model, make_recipe):
    optimizer = make_optimizer(model, make_recipe(weight_decay=0.0).train)
    before = model.head.linear.bias.detach().clone()
    set_rate(optimizer, 0.25)
    model.head.linear.bias.grad = torch.ones_like(before)
    optimizer.step()
    # AdamW divides by the gradient: its first step has the length of the rate.
    torch.testing.assert_close(model.head.linear.bias.detach(), before - 0.25)


def test_a_rate_that_is_a_tensor_keeps_its_address(model):
    rate = torch.tensor(1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    address = optimizer.param_groups[0]["lr"].data_ptr()
    set_rate(optimizer, 0.5)
    assert optimizer.param_groups[0]["lr"].data_ptr() == address
    assert optimizer.param_groups[0]["lr"].item() == 0.5


def test_the_state_made_beforehand_is_that_of_the_first_step(model, make_recipe):
    config = make_recipe().train
    ours = make_optimizer(model, config)
    plain = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    plain.step()
    for parameter, state in plain.state.items():
        kinds, expected = (
            {name: (value.shape, value.dtype) for name, value in each.items()}
            for each in (ours.state[parameter], state)
        )
        assert kinds == expected
        assert not any(value.any() for value in ours.state[parameter].values())
