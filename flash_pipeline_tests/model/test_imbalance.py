"""Shape letters: B batch rows, T snapshots, L levels, S sides, F inputs, H horizons."""

import math

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.imbalance import (
    LogisticImbalance,
    LogisticOrderFlow,
    LogisticState,
    SizeScale,
)


def books(n_rows, n_snapshots, n_levels=5, seed=0):
    """Return random books around a mid price of 0, with ln(1 + size) for sizes around 1."""
    generator = torch.Generator().manual_seed(seed)
    book = torch.zeros(n_rows, n_snapshots, n_levels, 2, 3)
    far_L = 1e-4 * (1 + torch.arange(n_levels))
    book[..., 0, 0], book[..., 1, 0] = -far_L, far_L
    book[..., 1] = torch.randn(book.shape[:-1], generator=generator).exp().log1p()
    return book


def test_imbalance_is_that_of_the_sizes_at_each_depth():
    book = books(1, 2)
    bid, ask = book[0, -1, :, :, 1].expm1().unbind(-1)
    found = LogisticImbalance(5).regressors(book, None)
    expected = [
        (bid[:d].sum() - ask[:d].sum()) / (bid[:d].sum() + ask[:d].sum()) for d in (1, 2, 5)
    ]
    torch.testing.assert_close(found[0], torch.stack(expected))


def test_absent_levels_have_no_size():
    book = books(1, 1)
    valid = torch.ones(1, 1, 5, 2, dtype=torch.bool)
    valid[..., 1] = False
    book[~valid] = math.nan
    assert LogisticImbalance(5).regressors(book, valid).eq(1).all()
    assert LogisticImbalance(5).regressors(book, ~valid & False).eq(0).all()


def flow(old, new):
    """Return the order flow between two best quotes (bid price, size, ask price, size)."""
    book = torch.zeros(1, 2, 1, 2, 3)
    for i, (bid, bid_size, ask, ask_size) in enumerate((old, new)):
        book[0, i, 0, :, 0] = torch.tensor([bid, ask])
        book[0, i, 0, :, 1] = torch.tensor([bid_size, ask_size]).log1p()
    return LogisticOrderFlow().regressors(book, None)[0, 0].item()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((-1.0, 5.0, 1.0, 5.0), (-1.0, 8.0, 1.0, 5.0), 3.0),  # added to the bids
        ((-1.0, 5.0, 1.0, 5.0), (-1.0, 5.0, 1.0, 1.0), 4.0),  # taken from the asks
        ((-1.0, 5.0, 1.0, 5.0), (0.0, 2.0, 1.0, 5.0), 2.0),  # a better bid
        ((-1.0, 5.0, 1.0, 5.0), (-2.0, 9.0, 1.0, 5.0), -5.0),  # the best bid is gone
        ((-1.0, 5.0, 1.0, 5.0), (-1.0, 5.0, 2.0, 7.0), 5.0),  # the best ask is gone
        ((-1.0, 5.0, 1.0, 5.0), (-1.0, 5.0, 0.5, 3.0), -3.0),  # a better ask
    ],
)
def test_order_flow_is_that_of_cont_kukanov_and_stoikov(old, new, expected):
    assert flow(old, new) == pytest.approx(expected, abs=1e-5)


def test_prices_around_a_moving_mid_are_compared_by_the_mid():
    book = books(1, 2, 1)
    book[..., 2] = torch.tensor([0.0, 1.0])[None, :, None, None]  # the mid has risen
    own, moved = LogisticOrderFlow(), LogisticOrderFlow(move=2)
    size = book[0, :, 0, :, 1].expm1()
    assert moved.regressors(book, None)[0, 0].item() == pytest.approx(
        (size[1, 0] + size[0, 1]).item(), rel=1e-5
    )
    assert own.regressors(book, None)[0, 0] != moved.regressors(book, None)[0, 0]


def test_rounding_of_the_mid_s_move_is_no_event():
    book = books(1, 2, 1)
    rounded = 1e-7
    book[..., 2] = torch.tensor([0.0, rounded])[None, :, None, None]
    size = book[0, :, 0, :, 1].expm1()
    still = (size[1, 0] - size[0, 0] - size[1, 1] + size[0, 1]).item()
    found = LogisticOrderFlow(move=2, step=1e-4).regressors(book, None)[0, 0].item()
    assert found == pytest.approx(still, rel=1e-4)
    assert LogisticOrderFlow(move=2).regressors(book, None)[0, 0].item() != found


def test_a_step_to_a_snapshot_without_a_best_quote_has_no_flow():
    book = books(1, 3)
    valid = torch.ones(book.shape[:-1], dtype=torch.bool)
    valid[0, 1, 0, 0] = False
    book[~valid] = math.nan
    assert LogisticOrderFlow().regressors(book, valid).eq(0).all()


def test_it_learns_what_imbalance_says_and_no_more():
    book = books(2000, 1)
    imbalance = LogisticImbalance(5).regressors(book, None)[:, 0]
    chance = torch.rand(2000, generator=torch.Generator().manual_seed(1))
    label = torch.where(chance < (1 + imbalance) / 2, 2, 0)[:, None]
    label[:50] = -1
    model = LogisticImbalance(5, 1)
    even = model.loss(model(book), label)
    model.fit([(book[:1000], None, label[:1000])])
    held_out = model.loss(model(book[1000:]), label[1000:])
    assert even.item() == pytest.approx(math.log(3), abs=1e-4)
    best = torch.where(label[1000:, 0] == 2, 1 + imbalance[1000:], 1 - imbalance[1000:]) / 2
    assert held_out < -best.log().mean() + 0.02
    assert model.predict(book)[:, 0, 1].max() < 0.05  # nothing ever stayed flat


def test_a_fit_is_the_same_whatever_the_batches():
    book, label = books(60, 4), torch.arange(60)[:, None] % 3
    together, parted = LogisticOrderFlow(1), LogisticOrderFlow(1)
    together.fit([(book, None, label)])
    parted.fit([(book[:20], None, label[:20]), (book[20:], None, label[20:])])
    torch.testing.assert_close(together(book), parted(book), rtol=1e-3, atol=1e-4)


def test_a_training_range_without_labels_and_other_shapes_are_refused():
    model, book = LogisticImbalance(5, 1), books(2, 1)
    with pytest.raises(InvalidInput, match="no known label"):
        model.fit([(book, None, torch.full((2, 1), -1))])
    with pytest.raises(InvalidInput, match="book has the shape"):
        model(book[:, 0])
    with pytest.raises(InvalidInput, match="valid has the shape"):
        model(book, torch.ones(2, 1, dtype=torch.bool))


def test_standardised_log_sizes_are_turned_back():
    book, scale = books(3, 2), SizeScale(0.7, 0.3)
    expected = LogisticImbalance(5).regressors(book, None)
    book[..., 1] = (book[..., 1] - 0.7) / 0.3
    torch.testing.assert_close(LogisticImbalance(5, scale=scale).regressors(book, None), expected)


def wandering(n_rows, n_snapshots, n_levels=5):
    """Return books whose fourth input is the move of the mid price."""
    book = torch.zeros(n_rows, n_snapshots, n_levels, 2, 4)
    book[..., :3] = books(n_rows, n_snapshots, n_levels)
    generator = torch.Generator().manual_seed(2)
    book[..., 3] = torch.randn(n_rows, n_snapshots, generator=generator)[..., None, None]
    return book


def test_state_is_imbalance_moves_volatility_flow_spread_and_gaps():
    book = wandering(3, 64)
    book[:, -1, 1, 0, 0] -= 5e-4  # the second bid is further away
    model = LogisticState(64, 5, move=3, step=0.5)
    assert model.spans == [1, 5, 10, 60, 64]
    found, move_BT = model.regressors(book, None), book[:, :, 0, 0, 3]
    imbalance_BP = LogisticImbalance(5).regressors(book, None)
    flow_BP = LogisticOrderFlow(move=3, step=0.5).regressors(book, None)
    parts = found.split([3, 5, 5, 5, 1, 1], dim=1)
    torch.testing.assert_close(parts[0], imbalance_BP)
    for i, span in enumerate(model.spans):
        last_BT = move_BT[:, -span:]
        torch.testing.assert_close(parts[1][:, i], last_BT.sum(1))
        torch.testing.assert_close(parts[2][:, i], (last_BT.abs().sum(1) / 0.5).log1p())
    torch.testing.assert_close(parts[3][:, [0, 2, 4]], flow_BP[:, :3])
    torch.testing.assert_close(parts[4][:, 0], torch.full((3,), 2e-4))
    torch.testing.assert_close(parts[5][:, 0], torch.full((3,), 5e-4))


def test_state_of_a_short_window_and_of_absent_levels():
    book = wandering(2, 4, 1)
    valid = torch.ones(book.shape[:-1], dtype=torch.bool)
    valid[0, 2, 0, 0] = False  # no bids: the asks hold the move as well
    valid[1, 3] = False
    absent = book.where(valid[..., None], math.nan)
    model = LogisticState(4, 1)
    assert model.spans == [1, 4]
    found = model.regressors(absent, valid)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, 1:3], model.regressors(book, None)[0, 1:3])
    torch.testing.assert_close(found[1, 2], book[1, :3, 0, 0, 3].sum())
    assert found[1, -2:].eq(0).all()


def test_state_knows_when_prices_move_where_imbalance_does_not():
    book = wandering(2000, 8)
    book[..., 3] *= torch.linspace(0.1, 3, 2000)[torch.randperm(2000)][:, None, None, None]
    wild = book[..., 3].abs().mean((1, 2, 3)) > 1
    label = torch.where(wild, 2 * (torch.rand(2000) < 0.5), 1).long()[:, None]
    state, imbalance = LogisticState(8, 5, 1), LogisticImbalance(5, 1)
    for model in (state, imbalance):
        model.fit([(book[:1000], None, label[:1000])])
    held_out = [model.loss(model(book[1000:]), label[1000:]) for model in (state, imbalance)]
    assert held_out[0] < held_out[1] - 0.2
