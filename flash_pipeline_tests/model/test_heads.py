import math

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.heads import HEADS

NAN = math.nan
OUTPUTS = torch.tensor([[0.5, -1.0], [0.25, 0.75]])
TARGETS = torch.tensor([[0.1, NAN], [0.0, -0.2]])


def log_loss(logit, rises):
    return math.log1p(math.exp(-logit if rises else logit))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("regression", (0.4**2 + 0.25**2 + 0.95**2) / 3),
        ("direction", (log_loss(0.5, True) + log_loss(0.25, False) + log_loss(0.75, False)) / 3),
        ("allocation", -(0.5 * 0.1 + 0.25 * 0.0 + 0.75 * -0.2) / 3),
    ],
)
def test_the_loss_is_the_mean_over_known_targets_computed_by_hand(name, expected):
    loss = HEADS[name](4, 2).loss(OUTPUTS, TARGETS)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_an_unknown_target_has_no_gradient(name):
    outputs_BS = OUTPUTS.clone().requires_grad_()
    HEADS[name](4, 2).loss(outputs_BS, TARGETS).backward()
    assert outputs_BS.grad.isfinite().all()
    assert outputs_BS.grad[0, 1] == 0
    assert outputs_BS.grad[0, 0] != 0


@pytest.mark.parametrize("name", HEADS)
def test_a_loss_without_any_known_target_is_zero_with_zero_gradients(name):
    outputs_BS = OUTPUTS.clone().requires_grad_()
    loss = HEADS[name](4, 2).loss(outputs_BS, torch.full((2, 2), NAN))
    loss.backward()
    assert loss.item() == 0
    assert outputs_BS.grad.eq(0).all()


def test_an_infinite_target_is_not_hidden():
    loss = HEADS["regression"](4, 2).loss(OUTPUTS, torch.tensor([[math.inf, 0.0], [0.0, 0.0]]))
    assert loss.isinf()


@pytest.mark.parametrize("name", HEADS)
def test_losses_of_half_precision_outputs_are_float32(name):
    assert HEADS[name](4, 2).loss(OUTPUTS.bfloat16(), TARGETS).dtype == torch.float32


@pytest.mark.parametrize("name", HEADS)
def test_targets_of_another_shape_are_refused_instead_of_broadcast(name):
    with pytest.raises(InvalidInput, match=r"targets have the shape \(2, 1\)"):
        HEADS[name](4, 2).loss(OUTPUTS, TARGETS[:, :1])


def test_regression_predicts_its_outputs():
    assert HEADS["regression"](4, 2).predict(OUTPUTS).equal(OUTPUTS)


def test_direction_predicts_the_probability_of_a_rise():
    logits_BS = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(
        HEADS["direction"](4, 2).predict(logits_BS), torch.tensor([[0.5, 0.75]])
    )


def test_allocation_puts_out_weights_between_minus_one_and_one():
    head = HEADS["allocation"](4, 2)
    h_BC = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 100
    weights_BS = head(h_BC)
    torch.testing.assert_close(weights_BS, head.linear(h_BC).tanh())
    assert weights_BS.abs().max() <= 1


def test_allocation_learns_to_hold_what_rises():
    outputs_BS = torch.zeros(1, 2, requires_grad=True)
    HEADS["allocation"](4, 2).loss(outputs_BS, torch.tensor([[0.1, -0.1]])).backward()
    assert (-outputs_BS.grad).sign().tolist() == [[1.0, -1.0]]
