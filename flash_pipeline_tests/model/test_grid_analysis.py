"""Shape letters: L layers, B rows, T moments, G, K cells, H heads."""

import pytest
import torch

from flash_pipeline.model import grid_analysis
from flash_pipeline.model.grid_analysis import last_moment_attention
from flash_pipeline.model.kernels import reference_attention
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.rotary import rotate, rotation

B, T, LEVELS = 2, 5, 2
G = 2 * LEVELS


def make(**options):
    torch.manual_seed(0)
    shape = {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 32} | options
    model = OrderBookModel(LEVELS, T, **shape).double().train()
    torch.nn.init.normal_(model.level.weight)
    return model


def draw():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, T, LEVELS, 2, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("span", ["full", "causal"])
def test_it_is_the_last_rows_of_the_whole_matrix(span):
    model, book = make(span=span), draw()
    found = last_moment_attention(model, book)
    h_BNC = (model.project(book.flatten(2, 3)) + model.cells()).flatten(1, 2)
    block = model.blocks[0]
    q, k, v = block.attention.project(block.attention_norm(h_BNC))
    turn = rotation(T, 8, book.device).repeat_interleave(G, 1)
    _, weights_BHNN = reference_attention(
        rotate(q, turn), rotate(k, turn), v, causal=span == "causal"
    )
    expected_BHGTK = weights_BHNN[:, :, -G:].reshape(B, 2, G, T, G)
    torch.testing.assert_close(found.by_cell_LBHGK[0], expected_BHGTK.sum(3))
    torch.testing.assert_close(found.by_place_LBHTK[0], expected_BHGTK.mean(2))
    torch.testing.assert_close(found.by_lag_LBHT[0], expected_BHGTK.mean(2).sum(-1).flip(-1))


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_weights_of_a_present_query_sum_to_one(layout, masked):
    model, book = make(layout=layout), draw()
    valid = torch.ones(book.shape[:-1], dtype=torch.bool)
    if masked:
        valid[0, -1, 1, 0], valid[1, 2] = False, False
        book[~valid] = torch.nan
    found = last_moment_attention(model, book, valid)
    asked = valid[:, -1].flatten(1)[None, :, None].expand(2, B, 2, G).double()
    torch.testing.assert_close(found.by_cell_LBHGK.sum(-1), asked)
    torch.testing.assert_close(found.by_lag_LBHT.sum(-1), torch.ones(2, B, 2).double())
    absent = ~valid.flatten(2)[None, :, None].expand_as(found.by_place_LBHTK)
    assert found.by_place_LBHTK[absent].eq(0).all()


def test_an_axial_layer_looks_along_its_axis_alone():
    found = last_moment_attention(make(layout="axial"), draw())
    assert found.by_lag_LBHT[0, :, :, 1:].eq(0).all()  # within the snapshot
    off = ~torch.eye(G, dtype=torch.bool)
    assert found.by_cell_LBHGK[1][..., off].eq(0).all()  # along the cell's own time
    assert found.by_lag_LBHT[1].gt(0).all()


def test_however_few_rows_are_formed_at_a_time(monkeypatch):
    model, book = make(), draw()
    whole = last_moment_attention(model, book)
    monkeypatch.setattr(grid_analysis, "SCORE_ENTRIES", 1)
    parts = last_moment_attention(model, book)
    torch.testing.assert_close(parts.by_cell_LBHGK, whole.by_cell_LBHGK)
    torch.testing.assert_close(parts.by_place_LBHTK, whole.by_place_LBHTK)


def test_cells_of_a_book_are_levels_and_sides():
    found = last_moment_attention(make(), draw())
    named = found.by_level_and_side()
    assert named.shape == (2, B, 2, LEVELS, 2, LEVELS, 2)
    assert named[0, 0, 0, 1, 0, 0, 1] == found.by_cell_LBHGK[0, 0, 0, 2, 1]


def test_it_leaves_the_model_as_it_was():
    model = make(dropout=0.5)
    before = last_moment_attention(model, draw())
    assert model.training
    assert last_moment_attention(model, draw()).by_cell_LBHGK.equal(before.by_cell_LBHGK)


@pytest.mark.parametrize("masked", [False, True])
def test_under_autocast_it_is_the_same_but_for_rounding(masked):
    model, book = make().float(), draw().float()
    valid = torch.ones(book.shape[:-1], dtype=torch.bool)
    valid[0, 1, 1, 0] = not masked
    exact = last_moment_attention(model, book, valid)
    with torch.autocast("cpu", torch.bfloat16):
        found = last_moment_attention(model, book, valid)
    assert found.by_cell_LBHGK.dtype == torch.float32
    torch.testing.assert_close(found.by_cell_LBHGK, exact.by_cell_LBHGK, atol=0.02, rtol=0)
    torch.testing.assert_close(found.by_lag_LBHT.sum(-1), torch.ones(2, B, 2))


def test_the_last_layer_is_looked_at_and_not_run():
    model, book = make(n_layers=3), draw()
    ran = []
    for i, block in enumerate(model.blocks):
        block.mlp.register_forward_hook(lambda *_, i=i: ran.append(i))
    assert len(last_moment_attention(model, book).by_cell_LBHGK) == 3
    assert sorted(set(ran)) == [0, 1]
