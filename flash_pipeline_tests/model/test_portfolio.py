"""Shape letters: B batch rows, T hours, A assets."""

import math

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model import ModelConfig
from flash_pipeline.model.config import HeadOptions
from flash_pipeline.model.heads import AllocationHead
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.model.rotary import rotation
from flash_pipeline.model.tokens import DenseTokens, PackedTokens

SMALL = {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 32}


def make(**options):
    torch.manual_seed(0)
    model = PortfolioModel(6, 8, **{**SMALL, **options}).eval()
    torch.nn.init.normal_(model.head.weight, std=5.0)
    return model


@pytest.fixture
def x():
    return torch.randn(4, 8, 6, 3, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("gross_cap", "asset_cap"), [(1.0, 0.1), (0.5, 0.3), (2.0, 1.0)])
def test_weights_keep_within_both_caps(x, gross_cap, asset_cap):
    model = make(head_options=HeadOptions(gross_cap=gross_cap), asset_cap=asset_cap)
    weights = model.predict(x)
    assert weights.abs().max() <= asset_cap * 1.0001
    gross = weights.abs().sum(1)
    assert gross.max() <= gross_cap * 1.0001
    assert gross.max() > 0.4 * min(gross_cap, 6 * asset_cap)
    assert weights.min() < 0 < weights.max()


def test_what_is_not_invested_is_cash(x):
    model = make()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    assert model.predict(x).eq(0).all()


@pytest.mark.parametrize("objective", ["sharpe", "mean_variance"])
@pytest.mark.parametrize("dense", [False, True])
def test_its_loss_is_that_of_the_allocation_head(objective, dense):
    options = HeadOptions(objective=objective, risk_aversion=3.0, turnover_cost=0.01)
    form = {"span": "causal", "supervision": "dense"} if dense else {}
    model = make(head_options=options, **form)
    config = ModelConfig(6, 1, head="allocation", head_options=options, d_model=8, n_heads=1,
                         **(form | {"positions": "rotary"} if dense else {}))  # fmt: skip
    shape = (4, 8, 6) if dense else (4, 6)
    weights, returns = torch.randn(shape), 0.01 * torch.randn(shape)
    returns[0, ..., 2] = math.nan
    expected = AllocationHead(config).loss(weights, returns)
    torch.testing.assert_close(model.loss(weights, returns), expected)


def test_an_unlisted_asset_neither_earns_nor_pays():
    model = make()
    weights = torch.rand(4, 6)
    returns = 0.01 * torch.randn(4, 6)
    returns[:, 3] = math.nan
    before = model.loss(weights, returns)
    weights[:, 3] = 9.0
    assert model.loss(weights, returns) == before


def test_targets_of_another_shape_are_refused():
    with pytest.raises(InvalidInput, match="targets have the shape"):
        make().loss(torch.zeros(4, 6), torch.zeros(4, 5))


def test_hours_after_a_gap_keep_their_places():
    random = torch.Generator().manual_seed(3)
    x = torch.randn(2, 7, 3, 4, 8, generator=random)  # [B, T, A, heads, head size]
    mask = torch.rand(2, 7, 3, generator=random) > 0.4
    mask[:, 3] = False
    turn = rotation(7, 8, x.device)
    dense, packed = DenseTokens((2, 7, 3), turn), PackedTokens(mask, turn)
    expected = dense.leave(dense.turn(dense.enter(x), last=False)) * mask[..., None, None]
    found = packed.leave(packed.turn(packed.enter(x), last=False))
    torch.testing.assert_close(found, expected)


def test_an_hour_that_is_missing_is_not_closed_up(x):
    model = make(head_options=HeadOptions(gross_cap=2.0), asset_cap=1.0)
    present = torch.ones(4, 8, 6, dtype=torch.bool)
    present[:, 4] = False
    closed = torch.cat([x[:, :4], x[:, 5:]], 1)
    assert not torch.allclose(model.predict(x, present), model.predict(closed), atol=1e-4)


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("dense", [False, True])
def test_who_is_absent_has_no_weight_and_is_no_part_of_the_mean(x, layout, dense):
    form = {"span": "causal", "supervision": "dense"} if dense else {}
    model = make(layout=layout, head_options=HeadOptions(gross_cap=0.5), asset_cap=0.2, **form)
    present = torch.ones(4, 8, 6, dtype=torch.bool)
    present[:, :, 2] = False
    present[:, 5:, 4] = False
    weights = model(x, present)
    assert weights[~(present if dense else present[:, -1])].eq(0).all()
    assert weights.abs().max() <= 0.2001
    assert weights.abs().sum(-1).max() <= 0.5001
    other = x.clone()
    other[~present] = math.nan
    with torch.no_grad():
        model.asset.weight[2] = 1e3  # its embedding is nobody's business
    torch.testing.assert_close(model(other, present), weights)


def test_dense_weights_know_no_later_hour_and_the_last_is_what_is_served(x):
    model = make(span="causal", supervision="dense", asset_cap=0.5)
    whole = model(x)
    torch.testing.assert_close(model.predict(x), whole[:, -1])
    later = x.clone()
    later[:, 5:] = 9.0
    torch.testing.assert_close(model(later)[:, :5], whole[:, :5])
    torch.testing.assert_close(model(x[:, :5]), whole[:, :5])
