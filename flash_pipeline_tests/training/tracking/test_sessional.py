"""A model with a symbol whose market closes: it is no one who takes candles around the clock."""

import dataclasses

import pytest

from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.tracking import track_training


@pytest.fixture
def version(registry, make_recipe, training):
    registry.settings = dataclasses.replace(
        registry.settings, yahoo_tickers=(("ETHUSDT", "ETH"), ("SPX", "^GSPC"))
    )
    with track_training(registry, make_recipe(), "abc", {}) as run:
        return run.register(training)


def test_it_offers_windows_alone_and_has_no_example_of_candles(registry, version):
    assert version.bundle.sessional == ("ETHUSDT",)
    card = registry.client.get_model_version(registry.name, version.version).description
    assert "model.predict(windows)" in card
    assert "It takes an array of floats" in card
    assert "a DataFrame with the columns" not in card


def test_a_bundle_of_an_older_version_has_none(bundle, tmp_path):
    bundle.save(tmp_path)
    described = tmp_path / "bundle.json"
    text = described.read_text().replace('  "sessional": [],\n', "")
    assert "sessional" not in text
    described.write_text(text)
    assert ModelBundle.load(tmp_path).sessional == ()
