"""Shape letters: B batch rows, T bars, C model width, S symbols, Q quantile levels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model import ModelConfig
from flash_pipeline.model.config import HeadOptions
from flash_pipeline.model.heads import HEADS

NAN = math.nan
OUTPUTS = torch.tensor([[0.5, -1.0], [0.25, 0.75]])
TARGETS = torch.tensor([[0.1, NAN], [0.0, -0.2]])
DENSE = {"supervision": "dense", "span": "causal", "positions": "rotary"}


def make_head(name, *, n_symbols=2, seed=0, options=None, **changes):
    """Return a seeded head of width 4."""
    torch.manual_seed(seed)
    config = ModelConfig(
        n_symbols=n_symbols,
        n_features=3,
        d_model=4,
        n_heads=2,
        n_layers=1,
        d_ff=8,
        head=name,
        head_options=HeadOptions(**(options or {})),
        **changes,
    )
    return HEADS[name](config)


def outputs_like(name, targets_S):
    """Return outputs of a head for targets of some shape, as varied as its own would be."""
    levels = (5,) if name == "quantile" else ()
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*targets_S.shape, *levels, generator=generator).mul(0.3).requires_grad_()


def log_loss(logit, rises):
    return math.log1p(math.exp(-logit if rises else logit))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("regression", (0.4**2 + 0.25**2 + 0.95**2) / 3),
        ("direction", (log_loss(0.5, True) + log_loss(0.25, False) + log_loss(0.75, False)) / 3),
    ],
)
def test_the_loss_is_the_mean_over_known_targets_computed_by_hand(name, expected):
    assert make_head(name).loss(OUTPUTS, TARGETS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_an_unknown_target_has_no_gradient(name):
    outputs_S = outputs_like(name, TARGETS)
    make_head(name).loss(outputs_S, TARGETS).backward()
    assert outputs_S.grad.isfinite().all()
    assert outputs_S.grad[0, 1].eq(0).all()
    assert outputs_S.grad[0, 0].ne(0).any()


@pytest.mark.parametrize("changes", [{}, DENSE])
@pytest.mark.parametrize("name", HEADS)
def test_a_loss_without_any_known_target_is_zero_with_zero_gradients(name, changes):
    unknown = torch.full((2, 3, 2), NAN)
    outputs_S = outputs_like(name, unknown)
    loss = make_head(name, **changes).loss(outputs_S, unknown)
    loss.backward()
    assert loss.item() == 0
    assert outputs_S.grad.eq(0).all()


@pytest.mark.parametrize("name", ["regression", "quantile", "allocation"])
def test_an_infinite_target_is_not_hidden(name):
    targets_BS = torch.tensor([[math.inf, 0.0], [0.0, 0.0]])
    assert not make_head(name).loss(outputs_like(name, targets_BS), targets_BS).isfinite()


@pytest.mark.parametrize("name", HEADS)
def test_losses_of_half_precision_outputs_are_float32(name):
    outputs_S = outputs_like(name, TARGETS).bfloat16()
    assert make_head(name).loss(outputs_S, TARGETS).dtype == torch.float32


@pytest.mark.parametrize("name", HEADS)
def test_targets_of_another_shape_are_refused_instead_of_broadcast(name):
    with pytest.raises(InvalidInput, match=r"shape \(2, 1\): .* predictions, \(2, 2\)"):
        make_head(name).loss(outputs_like(name, TARGETS), TARGETS[:, :1])


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("leading", [(), (3,), (3, 5), (2, 3, 5)])
def test_any_leading_axes_are_kept(name, leading):
    head = make_head(name)
    h_C = torch.randn(*leading, 4, generator=torch.Generator().manual_seed(0))
    outputs_S = head(h_C)
    assert outputs_S.shape == (*leading, 2, *([5] if name == "quantile" else []))
    assert head.predict(outputs_S).shape == (*leading, 2)
    if leading:
        torch.testing.assert_close(head(h_C[0]), outputs_S[0])


@pytest.mark.parametrize("changes", [{}, DENSE])
@pytest.mark.parametrize("objective", ["sharpe", "mean_variance"])
@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_those_of_finite_differences(name, objective, changes):
    head = make_head(name, options={"objective": objective}, **changes).double()
    generator = torch.Generator().manual_seed(1)
    h_BTC = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    targets_BTS = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    targets_BTS[0, 1] = NAN
    targets_BTS[1, 2, 0] = NAN
    assert torch.autograd.gradcheck(lambda h: head.loss(head(h), targets_BTS), (h_BTC,))


def test_regression_predicts_its_outputs():
    assert make_head("regression").predict(OUTPUTS).equal(OUTPUTS)


def test_direction_predicts_the_probability_of_a_rise():
    logits_BS = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(
        make_head("direction").predict(logits_BS), torch.tensor([[0.5, 0.75]])
    )


def test_quantiles_are_the_median_and_steps_outwards_by_hand():
    head = make_head("quantile", n_symbols=1)
    outputs_1Q = torch.tensor([[1.0, -2.0, 0.5, 0.0, 3.0]])
    steps = [math.log1p(math.exp(x)) for x in (1.0, -2.0, 0.0, 3.0)]
    expected = [
        0.5 - steps[1] - steps[0],
        0.5 - steps[1],
        0.5,
        0.5 + steps[2],
        0.5 + steps[2] + steps[3],
    ]
    assert head.quantiles(outputs_1Q)[0].tolist() == pytest.approx(expected)
    assert head.predict(outputs_1Q).tolist() == [0.5]


def test_outputs_of_zero_stand_for_about_a_standard_normal():
    quantiles_Q = make_head("quantile").quantiles(torch.zeros(5))
    assert quantiles_Q.tolist() == pytest.approx([-1.645, -0.674, 0, 0.674, 1.645], abs=0.3)


@settings(max_examples=200)
@given(
    outputs_NQ=hnp.arrays(np.float32, (8, 5), elements=st.floats(-1e6, 1e6, width=32)),
    levels=st.sampled_from([(0.05, 0.25, 0.5, 0.75, 0.95), (0.5, 0.6, 0.7, 0.8, 0.9)]),
)
def test_quantiles_never_cross(outputs_NQ, levels):
    head = make_head("quantile", options={"quantiles": levels})
    quantiles_NQ = head.quantiles(torch.from_numpy(outputs_NQ))
    assert quantiles_NQ.diff(dim=-1).ge(0).all()
    median_N = quantiles_NQ[:, levels.index(0.5)]
    assert head.predict(torch.from_numpy(outputs_NQ)).equal(median_N)


@pytest.mark.parametrize("levels", [(0.5,), (0.5, 0.9), (0.1, 0.5), (0.1, 0.2, 0.5)])
def test_the_median_may_stand_at_either_end(levels):
    head = make_head("quantile", options={"quantiles": levels})
    outputs_SQ = torch.zeros(2, len(levels))
    step = math.log(2)
    expected = [step * (n - levels.index(0.5)) for n in range(len(levels))]
    assert head.quantiles(outputs_SQ)[0].tolist() == pytest.approx(expected)
    assert head(torch.zeros(3, 4)).shape == (3, 2, len(levels))


def test_the_pinball_loss_is_summed_over_levels_and_averaged_over_known_targets():
    head = make_head("quantile", options={"quantiles": (0.1, 0.5, 0.9)})
    outputs_BSQ = torch.zeros(1, 2, 3)
    step = math.log(2)
    loss = head.loss(outputs_BSQ, torch.tensor([[1.0, NAN]]))
    # Under all three quantiles: the level times the distance.
    assert loss.item() == pytest.approx(0.1 * (1 + step) + 0.5 * 1 + 0.9 * (1 - step))
    loss = head.loss(outputs_BSQ, torch.tensor([[NAN, -1.0]]))
    assert loss.item() == pytest.approx(0.9 * (1 - step) + 0.5 * 1 + 0.1 * (1 + step))


def test_the_levels_are_no_part_of_the_weights():
    assert set(make_head("quantile").state_dict()) == {"linear.weight", "linear.bias"}


def fitted(head, h_NC, targets_NS, steps=400):
    """Return the head after some steps of Adam on all of the data."""
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(head(h_NC), targets_NS).backward()
        optimizer.step()
    return head


def test_quantiles_learned_from_a_toy_market_are_calibrated_and_know_wild_from_calm():
    generator = torch.Generator().manual_seed(0)
    wild_N1 = torch.randint(0, 2, (8000, 1), generator=generator)
    h_NC = torch.cat([wild_N1, 1 - wild_N1, torch.zeros(8000, 2)], 1).float()
    scale_N1 = 0.5 + 1.5 * wild_N1
    targets_N1 = 0.3 + scale_N1 * torch.randn(8000, 1, generator=generator)
    head = fitted(make_head("quantile", n_symbols=1), h_NC[:6000], targets_N1[:6000])
    quantiles_NQ = head.quantiles(head(h_NC[6000:]))[:, 0].detach()
    below_Q = (targets_N1[6000:] <= quantiles_NQ).float().mean(0)
    assert below_Q.tolist() == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95], abs=0.03)
    spread_N = quantiles_NQ[:, 4] - quantiles_NQ[:, 0]
    is_wild_N = wild_N1[6000:, 0] == 1
    ratio = spread_N[is_wild_N].mean() / spread_N[~is_wild_N].mean()
    assert ratio.item() == pytest.approx(4, rel=0.15)


@settings(max_examples=200)
@given(
    state_NC=hnp.arrays(np.float32, (8, 4), elements=st.floats(-100, 100, width=32)),
    cap=st.floats(0.01, 8),
)
def test_weights_lie_within_one_and_their_sum_within_the_gross_cap(state_NC, cap):
    head = make_head("allocation", n_symbols=5, options={"gross_cap": cap})
    torch.nn.init.normal_(head.linear.bias)
    weights_NS = head(torch.from_numpy(state_NC)).detach()
    assert weights_NS.abs().max() <= 1
    assert weights_NS.abs().sum(-1).max() <= cap * (1 + 1e-6)


def test_weights_below_the_cap_are_those_wanted_and_above_it_keep_their_proportions():
    head = make_head("allocation", n_symbols=3, options={"gross_cap": 1.0})
    h_C = torch.randn(4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(0.1 * h_C), head.linear(0.1 * h_C).tanh())
    wanted_S = head.linear(50 * h_C).tanh()
    torch.testing.assert_close(head(50 * h_C), wanted_S / wanted_S.abs().sum())


def allocation_loss(weights, returns, *, objective="sharpe", cost=0.0, **changes):
    options = {"objective": objective, "turnover_cost": cost, "risk_aversion": 3.0}
    head = make_head("allocation", options=options, **changes)
    return head.loss(torch.tensor(weights), torch.tensor(returns)).item()


def test_the_sharpe_loss_by_hand():
    # Portfolio returns 0.5 x 0.1 - 0.5 x 0.2 and 0.2 x 0.3 + 0.8 x 0.1: -0.05 and 0.14.
    loss = allocation_loss([[0.5, -0.5], [0.2, 0.8]], [[0.1, 0.2], [0.3, 0.1]])
    assert loss == pytest.approx(-0.045 / 0.095, rel=1e-5)


def test_the_mean_variance_loss_by_hand():
    loss = allocation_loss(
        [[0.5, -0.5], [0.2, 0.8]], [[0.1, 0.2], [0.3, 0.1]], objective="mean_variance"
    )
    assert loss == pytest.approx(-(0.045 - 3.0 / 2 * 0.095**2), rel=1e-5)


def test_a_position_of_a_window_drawn_at_random_pays_for_being_opened_and_closed():
    loss = allocation_loss(
        [[0.5, -0.5], [0.2, 0.6]],
        [[0.0, 0.0], [0.0, 0.0]],
        objective="mean_variance",
        cost=0.01,
    )
    costs = (0.01 * 2 * 1.0, 0.01 * 2 * 0.8)
    mean, deviation = sum(costs) / 2, (costs[0] - costs[1]) / 2
    assert loss == pytest.approx(mean + 3.0 / 2 * deviation**2, rel=1e-5)


def test_under_dense_supervision_the_change_from_the_bar_before_is_paid():
    weights = [[[0.5, 0.0], [0.2, 0.1], [0.2, 0.1]]]
    loss = allocation_loss(
        weights, [[[0.0, 0.0]] * 3], objective="mean_variance", cost=0.01, **DENSE
    )
    costs = (0.0, 0.01 * (0.3 + 0.1), 0.0)  # what was held before the first bar is not known
    mean = sum(costs) / 3
    variance = sum((c - mean) ** 2 for c in costs) / 3
    assert loss == pytest.approx(mean + 3.0 / 2 * variance, rel=1e-5)


def test_rows_do_not_pay_for_one_another_under_dense_supervision():
    weights = [[[0.9, 0.9]] * 3, [[-0.9, 0.9]] * 3]
    returns = [[[0.0, 0.0]] * 3] * 2
    assert allocation_loss(weights, returns, objective="mean_variance", cost=1.0, **DENSE) == 0


def test_a_symbol_without_a_known_return_neither_earns_nor_pays():
    for changes in ({}, DENSE):
        weights = torch.tensor([[[0.5, 0.1], [0.2, 0.9], [0.3, -0.4], [0.3, 0.2]]])
        returns = torch.tensor([[[0.1, 0.2], [0.3, NAN], [0.2, 0.1], [NAN, NAN]]])
        head = make_head("allocation", options={"turnover_cost": 0.1}, **changes)
        loss = head.loss(weights, returns)
        weights[0, 1, 1], weights[0, 3, :] = -0.7, 0.9
        assert head.loss(weights, returns) == loss


def test_a_bar_without_any_known_return_is_no_portfolio_return_of_zero():
    known = allocation_loss([[0.5, -0.5], [0.2, 0.8]], [[0.1, 0.2], [0.3, 0.1]])
    padded = allocation_loss(
        [[0.5, -0.5], [0.2, 0.8], [0.9, 0.1]], [[0.1, 0.2], [0.3, 0.1], [NAN, NAN]]
    )
    assert padded == pytest.approx(known)


@pytest.mark.parametrize("cost", [0.0, 0.001])
def test_the_sharpe_ratio_of_fewer_than_two_returns_is_zero(cost):
    assert allocation_loss([[0.5, 0.5]], [[0.1, 0.2]], cost=cost) == 0


def test_the_sharpe_ratio_of_nothing_held_is_zero_with_finite_gradients():
    weights_BS = torch.zeros(4, 2, requires_grad=True)
    returns_BS = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)) * 0.01
    loss = make_head("allocation").loss(weights_BS, returns_BS)
    loss.backward()
    assert loss.item() == 0
    assert weights_BS.grad.isfinite().all()


@pytest.mark.parametrize("objective", ["sharpe", "mean_variance"])
def test_allocation_learns_to_hold_what_rises(objective):
    generator = torch.Generator().manual_seed(0)
    returns_NS = 0.01 * torch.randn(500, 2, generator=generator) + torch.tensor([0.005, -0.005])
    head = make_head("allocation", options={"objective": objective})
    held_S = fitted(head, torch.zeros(500, 4), returns_NS, 100)(torch.zeros(4))
    assert held_S.sign().tolist() == [1.0, -1.0]


@pytest.mark.parametrize("objective", ["sharpe", "mean_variance"])
def test_allocation_learns_to_stay_out_where_costs_eat_the_edge(objective):
    generator = torch.Generator().manual_seed(0)
    returns_NS = 0.01 * torch.randn(500, 2, generator=generator) + torch.tensor([0.005, 0.001])
    held = []
    for cost in (0.0, 0.002):
        options = {"objective": objective, "turnover_cost": cost, "gross_cap": 2.0}
        head = make_head("allocation", options=options)
        held.append(fitted(head, torch.zeros(500, 4), returns_NS)(torch.zeros(4)).detach())
    free_S, costly_S = held
    assert free_S[1] > 0.1
    assert costly_S[0] > 0.1
    assert abs(costly_S[1]) < 0.05


def test_a_risk_averse_allocation_holds_less_of_what_is_wild():
    generator = torch.Generator().manual_seed(0)
    scale_S = torch.tensor([0.01, 0.04])
    returns_NS = scale_S * torch.randn(2000, 2, generator=generator) + 0.002
    options = {"objective": "mean_variance", "risk_aversion": 50.0, "turnover_cost": 0.0}
    head = make_head("allocation", options=options)
    held_S = fitted(head, torch.zeros(2000, 4), returns_NS)(torch.zeros(4)).detach()
    # Markowitz: mean / (aversion x variance) of each, being uncorrelated.
    exact_S = returns_NS.mean(0) / (50 * returns_NS.var(0))
    torch.testing.assert_close(held_S, exact_S, rtol=0.15, atol=0.01)
