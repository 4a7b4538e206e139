"""What the order book's and the market's model share: exactness, absent tokens, look-ahead.

Shape letters: B batch rows, T moments, A cells (assets), F inputs.
"""

import dataclasses
import itertools

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported, InvalidConfig, InvalidInput
from flash_pipeline.model import grid
from flash_pipeline.model.grid_config import GridConfig, OrderBookConfig, PortfolioConfig
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel

N_ROWS, N_HOURS, N_ASSETS = 3, 9, 4
FORMS = list(itertools.product(("joint", "axial"), ("full", "causal"), (1, 2, 3)))

each_form = pytest.mark.parametrize(("layout", "span", "n_layers"), FORMS)


def make(layout="joint", span="full", n_layers=2, n_assets=N_ASSETS, **options):
    """Return a seeded model in float64, its head large enough to tell outputs apart."""
    torch.manual_seed(0)
    shape = {"d_ff": 32, "layout": layout, "span": span, "asset_cap": 1.0} | options
    model = PortfolioModel(n_assets, N_HOURS, 16, 2, n_layers, **shape).double().eval()
    for weight in (model.head.weight, model.asset.weight):
        torch.nn.init.normal_(weight)
    return model


def draw(n_rows=N_ROWS, n_hours=N_HOURS, n_assets=N_ASSETS):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_rows, n_hours, n_assets, 3, generator=generator, dtype=torch.float64)


def gaps():
    """Return a mask with holes, a late listing, an asset without history and an empty row."""
    generator = torch.Generator().manual_seed(2)
    present = torch.rand(N_ROWS, N_HOURS, N_ASSETS, generator=generator) > 0.2
    present[:, -1, :2] = True
    present[0, :5, 0] = False
    present[1, :, 3] = False
    present[2] = False
    return present


def test_issues_defaults():
    model = PortfolioModel()
    assert (model.config.n_assets, model.config.lookback, model.config.head_size) == (100, 2048, 16)
    assert model.tokens_per_bar * model.config.max_moments == 204_800
    book = OrderBookModel()
    assert book.tokens_per_bar * book.config.max_moments == 100_000


@each_form
@pytest.mark.parametrize("masked", [False, True])
def test_asking_the_last_moment_alone_changes_nothing(layout, span, n_layers, masked):
    model, x, present = make(layout, span, n_layers), draw(), gaps() if masked else None
    every = model.run(x, present, "sdpa", every_bar=True)
    last = model.run(x, present, "sdpa", every_bar=False)
    torch.testing.assert_close(last, every[:, -1])
    assert last.abs().max() > 0.01


@pytest.mark.parametrize("masked", [False, True])
def test_asking_the_last_moment_alone_gives_the_same_gradients(masked):
    model, x, present = make(), draw(), gaps() if masked else None
    weights = list(model.parameters())
    every = model.run(x, present, "sdpa", every_bar=True)[:, -1].square().sum()
    last = model.run(x, present, "sdpa", every_bar=False).square().sum()
    torch.testing.assert_close(
        torch.autograd.grad(last, weights), torch.autograd.grad(every, weights)
    )


def test_in_the_last_layer_only_the_last_moments_tokens_go_through_the_mlp():
    model, seen = make(), []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    model(draw())
    assert seen == [N_ROWS * N_HOURS * N_ASSETS, N_ROWS * N_ASSETS]


@each_form
def test_a_mask_that_hides_nothing_and_a_pack_agree_with_the_plain_array(layout, span, n_layers):
    model, x = make(layout, span, n_layers), draw()
    everything = torch.ones(x.shape[:-1], dtype=torch.bool)
    plain = model(x)
    assert model(x, everything).equal(plain)
    torch.testing.assert_close(model.run(x, everything, "sdpa", every_bar=False), plain)


@each_form
def test_what_an_absent_token_holds_changes_nothing(layout, span, n_layers):
    model, x, present = make(layout, span, n_layers), draw(), gaps()
    before = model(x, present)
    x[~present] = torch.nan
    x.requires_grad_()
    after = model(x, present)
    assert after.equal(before)
    (slope,) = torch.autograd.grad(after.sum(), x)
    assert slope[~present].eq(0).all()
    assert slope.isfinite().all()


@each_form
def test_an_asset_without_history_is_as_if_the_model_had_none(layout, span, n_layers):
    model = make(layout, span, n_layers)
    fewer = make(layout, span, n_layers, n_assets=N_ASSETS - 1)
    state = model.state_dict()
    state |= {name: state[name][:-1] for name in ("asset.weight", "centre_GF", "spread_GF")}
    fewer.load_state_dict(state)
    x = draw()
    present = torch.ones(x.shape[:-1], dtype=torch.bool)
    present[..., -1] = False
    outputs = model(x, present)
    torch.testing.assert_close(outputs[:, :-1], fewer(x[:, :, :-1]))
    assert outputs[:, -1].eq(0).all()


@each_form
def test_a_shorter_history_is_one_whose_older_tokens_are_absent(layout, span, n_layers):
    model, x = make(layout, span, n_layers), draw()
    present = torch.ones(x.shape[:-1], dtype=torch.bool)
    present[:, :4] = False
    torch.testing.assert_close(model(x[:, 4:]), model(x, present))


@each_form
def test_rows_do_not_see_one_another(layout, span, n_layers):
    model, x, present = make(layout, span, n_layers), draw(), gaps()
    together = model(x, present)
    for row in range(N_ROWS):
        alone = model(x[row : row + 1], present[row : row + 1])
        torch.testing.assert_close(alone[0], together[row])


def test_a_row_without_a_token_and_an_absent_asset_give_nothing():
    present = gaps()
    weights = make()(draw(), present)
    assert weights[2].eq(0).all()
    assert weights[~present[:, -1]].eq(0).all()
    assert weights[present[:, -1]].ne(0).all()


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("masked", [False, True])
def test_under_the_causal_span_no_moment_knows_a_later_one(layout, masked):
    model, x = make(layout, "causal", 3, supervision="dense"), draw()
    present = gaps() if masked else None
    before = model(x, present)
    x[:, 5:] += 1
    after = model(x, present)
    assert after[:, :5].equal(before[:, :5])
    assert not after[:2, 5:].allclose(before[:2, 5:])


@pytest.mark.parametrize("layout", ["joint", "axial"])
def test_every_asset_hears_of_every_other_and_of_the_oldest_hour(layout):
    model, x = make(layout), draw(n_rows=1)
    x.requires_grad_()
    for asset in range(N_ASSETS):
        (slope,) = torch.autograd.grad(model(x)[0, asset], x)
        assert slope[0].abs().sum(-1).gt(0).all()


@each_form
@pytest.mark.parametrize("masked", [False, True])
def test_all_backends_give_the_same_outputs_and_gradients(layout, span, n_layers, masked):
    x, present, results = draw(), gaps() if masked else None, []
    for attention in ("sdpa", "tiled", "reference"):
        model = make(layout, span, n_layers, attention=attention)
        outputs = model(x, present)
        results.append([outputs, *torch.autograd.grad(outputs.square().sum(), model.parameters())])
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_only_distances_in_time_are_known():
    model = make(span="causal")
    x = draw()
    tokens = model._tokens(x, None)
    shifted = dataclasses.replace(tokens, turn_2TR=grid.rotation(N_HOURS + 7, 8, x.device)[:, 7:])
    before = model(x)
    model._tokens = lambda *_: shifted
    torch.testing.assert_close(model(x), before)


def test_both_layouts_have_the_same_weights():
    joint, axial = make("joint"), make("axial")
    assert joint.n_parameters == axial.n_parameters
    axial.load_state_dict(joint.state_dict())
    assert make("axial", n_layers=4).config.axes == ("time", "cells", "time", "cells")
    assert OrderBookConfig(layout="axial").axes == ("cells", "time", "cells", "time")


def test_activations_computed_again_give_the_same_gradients():
    model, x = make().train(), draw()
    kept = torch.autograd.grad(model(x).square().sum(), model.parameters())
    model.recompute = True
    again = torch.autograd.grad(model(x).square().sum(), model.parameters())
    assert all(a.equal(b) for a, b in zip(kept, again, strict=True))


def test_without_gradients_the_mlp_takes_the_tokens_in_parts(monkeypatch):
    model, x, present = make(n_layers=3), draw(), gaps()
    whole = model(x, present)
    monkeypatch.setattr(grid, "MLP_TOKENS", 7)
    with torch.inference_mode():
        torch.testing.assert_close(model(x, present), whole.detach())


def test_the_scale_is_that_of_what_is_there():
    model, x, present = make(), 5 + 3 * draw(), gaps()
    x[..., 2] = 7.0
    x[~present] = 1e9
    x[0, 0, 1, 0] = torch.nan
    present[:, :, 3] = False
    model.fit_scale(x, present)
    counted = present & x.isfinite().all(-1)
    values = x[:, :, 1, 1][present[:, :, 1]]
    assert counted.any()
    torch.testing.assert_close(model.centre_GF[1, 1], values.mean())
    torch.testing.assert_close(model.spread_GF[1, 1], values.std(correction=0))
    assert model.spread_GF[:, 2].eq(1).all()  # it does not vary
    everything = x[..., 1][present]
    torch.testing.assert_close(model.centre_GF[3, 1], everything.mean())  # a cell never seen


def test_a_configuration_comes_back_from_json():
    for config in (PortfolioConfig(7, 9, layout="axial", asset_cap=0.2), OrderBookConfig(3, 4)):
        assert type(config).from_dict(config.to_dict()) == config
    with pytest.raises(InvalidConfig, match=r"unknown keys \['depth'\] and lacks"):
        OrderBookConfig.from_dict({"depth": 1})


def test_a_model_is_made_of_a_configuration():
    config = PortfolioConfig(7, 9, d_model=8, n_heads=1, n_layers=1, d_ff=8, asset_cap=0.2)
    assert PortfolioModel.of(config).config == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_assets": 0}, "n_assets is 0"),
        ({"layout": "ring"}, "layout is 'ring'"),
        ({"span": "sliding"}, "span is 'sliding'"),
        ({"supervision": "dense"}, "'dense' with span 'full'"),
        ({"d_model": 12, "n_heads": 4}, "the head size is 3"),
        ({"asset_cap": 0.0}, r"asset_cap is 0\.0"),
        ({"n_features": 0}, "n_features is 0"),
    ],
)
def test_a_configuration_out_of_bounds_is_refused(options, message):
    with pytest.raises(InvalidConfig, match=message):
        PortfolioConfig(**options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 9, 3, 3), "3 assets are fewer than the 4 of the training: give a missing one"),
        ((1, 9, 5, 3), r"expected \[rows, moments, 4, 3\]$"),
        ((1, 10, 4, 3), "input has 10 moments: expected 1 to 9"),
        ((1, 0, 4, 3), "input has 0 moments"),
        ((9, 4, 3), r"expected \[rows, moments, 4, 3\]$"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(InvalidInput, match=message):
        make()(torch.zeros(shape, dtype=torch.float64))


def test_other_dtypes_and_masks_are_refused():
    model, x = make(), draw()
    with pytest.raises(InvalidInput, match=r"input is torch\.float32"):
        model(x.float())
    with pytest.raises(InvalidInput, match=r"valid is torch\.float64"):
        model(x, x[..., 0])
    with pytest.raises(AttentionUnsupported, match="flex was asked for"):
        make(attention="flex")(x, gaps())


def test_the_base_has_no_cells_of_its_own():
    for name in ("n_cells", "max_moments", "head"):
        with pytest.raises(NotImplementedError):
            getattr(GridConfig(), name)
