"""Bundles of the models that read many tokens a moment."""

import json

import pytest
import torch

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.model.grid_config import PortfolioConfig
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.training.grid_bundle import GridBundle

TINY = {"d_model": 8, "n_heads": 1, "n_layers": 1, "d_ff": 16}


@pytest.fixture
def book():
    model = OrderBookModel(2, 4, n_horizons=2, **TINY).eval()
    return model, GridBundle.of(model, {"symbols": ["BTCUSDT"], "horizons": [1, 5]})


def test_a_bundle_comes_back_as_it_was_saved_and_predicts_the_same_bits(book, tmp_path):
    model, bundle = book
    bundle.save(tmp_path)
    again = GridBundle.load(tmp_path)
    assert (again.kind, again.config, again.details) == ("order_book", model.config, bundle.details)
    x = torch.randn(3, 4, 2, 2, 3)
    assert again.model().predict(x).equal(model.predict(x))
    assert not again.model().training


def test_a_portfolio_comes_back_too(tmp_path):
    model = PortfolioModel(5, 8, **TINY).eval()
    GridBundle.of(model, {}).save(tmp_path)
    again = GridBundle.load(tmp_path)
    assert again.kind == "portfolio"
    x = torch.randn(2, 8, 5, 3)
    assert again.model().predict(x).equal(model.predict(x))


def test_a_bundle_of_another_kind_or_format_is_refused(book, tmp_path):
    _, bundle = book
    with pytest.raises(BundleMismatch, match="'order_book' has a PortfolioConfig"):
        GridBundle("order_book", PortfolioConfig(), bundle.weights)
    bundle.save(tmp_path)
    path = tmp_path / "bundle.json"
    description = json.loads(path.read_text())
    for change, words in (
        ({"format": 2}, "format 2"),
        ({"kind": "candles"}, "kind 'candles'"),
        ({"model": {"n_levels": 2}}, "incomplete"),
        ({"model": description["model"] | {"n_levels": -2}}, "n_levels"),
        ({"model": description["model"] | {"n_levels": 3}}, "weights do not fit"),
    ):
        path.write_text(json.dumps(description | change))
        with pytest.raises(BundleMismatch, match=words):
            GridBundle.load(tmp_path)
    path.write_text("[]")
    with pytest.raises(BundleMismatch, match="format None"):
        GridBundle.load(tmp_path)


def test_missing_or_torn_files_are_named(book, tmp_path):
    with pytest.raises(BundleMismatch, match="holds no bundle"):
        GridBundle.load(tmp_path)
    book[1].save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(BundleMismatch, match="holds no bundle"):
        GridBundle.load(tmp_path)
