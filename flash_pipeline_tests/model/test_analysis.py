"""Shape letters: L layers, B batch rows, H heads, T bars."""

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model import analysis
from flash_pipeline.model.analysis import full_attention, last_query_attention


@pytest.fixture
def valid_BT():
    """Return the mask of a full row, a padded one, one that ends early and an empty one."""
    valid_BT = torch.ones(4, 50, dtype=torch.bool)
    valid_BT[1, :20] = False
    valid_BT[2, 31:] = False
    valid_BT[3] = False
    return valid_BT


def test_the_last_query_weighs_all_bars_to_one(make_model, bars):
    weights_LBHT = last_query_attention(make_model(), bars(3, 64))
    assert weights_LBHT.shape == (2, 3, 2, 64)
    assert weights_LBHT.min() >= 0
    torch.testing.assert_close(weights_LBHT.sum(-1), torch.ones(2, 3, 2))


def test_absent_bars_weigh_nothing_and_an_empty_row_is_zeros(make_model, bars, valid_BT):
    weights_LBHT = last_query_attention(make_model(), bars(4, 50), valid_BT)
    absent_LBHT = ~valid_BT[None, :, None].expand_as(weights_LBHT)
    assert weights_LBHT[absent_LBHT].eq(0).all()
    sums_B = torch.tensor([1.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(weights_LBHT.sum(-1), sums_B[None, :, None].expand(2, 4, 2))


@pytest.mark.parametrize("n_bars", [50, 64])
def test_the_last_query_is_the_last_row_of_the_full_matrix(make_model, bars, n_bars):
    model, x_BTI = make_model(), bars(2, n_bars)
    torch.testing.assert_close(
        last_query_attention(model, x_BTI), full_attention(model, x_BTI)[..., -1, :]
    )


def test_the_last_valid_query_is_its_row_of_the_full_matrix(make_model, bars, valid_BT):
    model, x_BTI = make_model(), bars(4, 50)
    last_LBHT = last_query_attention(model, x_BTI, valid_BT)
    full_LBHTT = full_attention(model, x_BTI, valid_BT)
    for row, last in enumerate([49, 49, 30, 0]):
        torch.testing.assert_close(last_LBHT[:, row], full_LBHTT[:, row, :, last])


def test_every_present_query_of_the_full_matrix_sums_to_one(make_model, bars, valid_BT):
    sums_LBHT = full_attention(make_model(), bars(4, 50), valid_BT).sum(-1)
    torch.testing.assert_close(sums_LBHT, valid_BT[None, :, None].expand(2, 4, 2, 50).float())


def test_the_weights_are_those_of_the_block_computed_by_hand(make_model, bars):
    model, x_BTI = make_model(n_layers=1), bars(1, 64)
    h_BTC = model.blocks[0].attention_norm(model.embed(x_BTI, None)[0])
    q_BTHD, k_BTHD, _ = model.blocks[0].attention.project(h_BTC)
    scores_HT = (q_BTHD[0, -1, :, None] * k_BTHD[0].transpose(0, 1)).sum(-1) / 8**0.5
    torch.testing.assert_close(last_query_attention(model, x_BTI)[0, 0], scores_HT.softmax(-1))


@pytest.mark.parametrize("analyse", [last_query_attention, full_attention])
def test_analysis_leaves_predictions_mode_and_reported_choice_alone(make_model, bars, analyse):
    model, x_BTI = make_model(dropout=0.5), bars(2, 50)
    before_BS, choice = model(x_BTI), model.attention_choice
    model.train()
    weights = analyse(model, x_BTI)
    assert weights.equal(analyse(model, x_BTI))
    assert model.training
    assert not weights.requires_grad
    assert model.attention_choice is choice
    assert model.eval()(x_BTI).equal(before_BS)


def test_analysis_is_float32_under_autocast(make_model, bars):
    model, x_BTI = make_model(), bars(2, 50)
    with torch.autocast("cpu", torch.bfloat16):
        last_LBHT = last_query_attention(model, x_BTI)
        full_LBHTT = full_attention(model, x_BTI)
    assert last_LBHT.dtype == full_LBHTT.dtype == torch.float32
    torch.testing.assert_close(last_LBHT.sum(-1), torch.ones(2, 2, 2))
    torch.testing.assert_close(full_LBHTT.sum(-1), torch.ones(2, 2, 2, 50))


def test_a_matrix_beyond_the_limit_is_refused_with_the_way_out(make_model, bars, monkeypatch):
    monkeypatch.setattr(analysis, "FULL_ATTENTION_LIMIT", 10_000)
    with pytest.raises(InvalidInput, match=r"40000 bytes .* last_query_attention has no such"):
        full_attention(make_model(), bars(1, 50))


@pytest.mark.parametrize("analyse", [last_query_attention, full_attention])
def test_inputs_that_do_not_fit_are_refused(make_model, analyse):
    with pytest.raises(InvalidInput, match=r"expected \[rows, bars, 6\]"):
        analyse(make_model(), torch.zeros(50))
