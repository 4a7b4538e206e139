"""Shape letters: B batch rows, T snapshots, L levels, S sides, F inputs, H horizons."""

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.movement import movement_loss
from flash_pipeline.model.order_book import OrderBookModel

SHAPE = (2, 6, 3, 2, 3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = OrderBookModel(3, 6, d_model=16, n_heads=2, n_layers=2, d_ff=32, n_horizons=2).eval()
    for weight in (model.head.weight, model.level.weight):
        torch.nn.init.normal_(weight)
    return model


@pytest.fixture
def book():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def test_it_gives_probabilities_of_three_movements_at_each_horizon(model, book):
    chances = model.predict(book)
    assert chances.shape == (2, 2, 3)
    torch.testing.assert_close(chances.sum(-1), torch.ones(2, 2))


def test_at_first_it_gives_even_chances():
    chances = OrderBookModel(3, 6, d_model=16, n_heads=2, n_layers=1, d_ff=32).predict(
        torch.randn(SHAPE)
    )
    assert (chances - 1 / 3).abs().max() < 0.05


def test_levels_and_sides_are_told_apart(model, book):
    for swapped in (book.flip(2), book.flip(3)):
        assert not model(swapped).allclose(model(book), atol=1e-3)


def test_a_snapshot_without_a_level_gives_even_chances(model, book):
    valid = torch.ones(SHAPE[:-1], dtype=torch.bool)
    valid[0, -1] = False
    book[0, -1] = torch.nan
    logits = model(book, valid)
    assert logits[0].eq(0).all()
    assert logits[1].ne(0).all()


def test_a_missing_level_is_a_token_that_valid_hides(model, book):
    with pytest.raises(InvalidInput, match="a book of 2 levels is below the model's 3"):
        model(book[:, :, :2])
    valid = torch.ones(SHAPE[:-1], dtype=torch.bool)
    valid[:, :, 2] = False
    assert model(book, valid).isfinite().all()


def test_unknown_labels_do_not_count():
    logits = torch.randn(4, 2, 3, requires_grad=True)
    label = torch.tensor([[0, 1], [2, -1], [-1, -1], [1, 0]])
    known = label >= 0
    expected = torch.nn.functional.cross_entropy(logits[known], label[known])
    torch.testing.assert_close(movement_loss(logits, label), expected)
    floats = label.float().where(known, torch.nan)
    torch.testing.assert_close(movement_loss(logits, floats), expected)
    none = movement_loss(logits, torch.full_like(label, -1))
    assert none == 0
    assert torch.autograd.grad(none, logits)[0].eq(0).all()


def test_labels_of_another_shape_are_refused():
    with pytest.raises(InvalidInput, match="labels have the shape"):
        movement_loss(torch.zeros(4, 2, 3), torch.zeros(4, 3))


def test_under_dense_supervision_every_snapshot_has_an_output(book):
    options = {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32, "n_horizons": 2}
    model = OrderBookModel(3, 6, span="causal", supervision="dense", **options)
    assert model(book).shape == (2, 6, 2, 3)
    assert model.predict(book).shape == (2, 2, 3)
    torch.testing.assert_close(model.last_outputs(book), model(book)[:, -1])
