"""Models of long sequences in the registry."""

import mlflow
import numpy as np
import pytest
import torch

from flash_pipeline.errors import ModelNotRegistered, OutOfMemory
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.training import fallback
from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.tracking import RIVAL_TAG
from flash_pipeline.training.tracking.sequences import (
    ORDER_BOOK_MODEL,
    find_sequence,
    load_sequence_bundle,
    register_sequence_model,
    sequence_at,
    settle_champion,
)
from flash_pipeline.training.tracking.served_grid import GridForecaster, grid_signature


@pytest.fixture
def register(registry):
    def register(seed=0):
        torch.manual_seed(seed)
        model = OrderBookModel(2, 4, n_horizons=2, d_model=8, n_heads=1, n_layers=1, d_ff=16).eval()
        registered = register_sequence_model(
            registry.settings,
            ORDER_BOOK_MODEL,
            GridBundle.of(model, {"synthetic": True, "symbols": ["BTCUSDT"]}),
            params={"train": {"epochs": 2}},
            metrics={"log_loss": 1.0},
            figures={"loss.png": b"picture"},
            tags={"fingerprint": f"f{seed}"},
            example=np.zeros((1, 4, 2, 2, 3), np.float32),
        )
        return model, registered

    return register


def test_a_model_is_registered_with_alias_signature_card_and_figures(registry, register):
    model, registered = register()
    client = registry.client
    assert registered == sequence_at(registry.settings, ORDER_BOOK_MODEL, "challenger")
    assert registered == find_sequence(registry.settings, ORDER_BOOK_MODEL, "f0")
    assert find_sequence(registry.settings, ORDER_BOOK_MODEL, "f1") is None
    card = client.get_model_version(ORDER_BOOK_MODEL, registered.version).description
    assert "simulated" in card
    assert "| log_loss | 1 |" in card
    run = client.get_run(registered.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "2"
    assert run.data.params["model.n_levels"] == "2"
    assert [each.path for each in client.list_artifacts(registered.run_id)] == ["loss.png"]
    bundle = load_sequence_bundle(registry.settings, ORDER_BOOK_MODEL, "challenger")
    x = torch.randn(3, 4, 2, 2, 3)
    assert bundle.model().predict(x).equal(model.predict(x))


def test_the_signature_of_100_000_tokens_takes_one_moment_of_them(monkeypatch):
    asked = []
    predict = OrderBookModel.predict

    def noted(self, book, valid=None):
        asked.append(tuple(book.shape))
        return predict(self, book, valid)

    monkeypatch.setattr(OrderBookModel, "predict", noted)
    model = OrderBookModel(n_features=4, d_model=8, n_heads=1, n_layers=1, d_ff=16)
    signature = grid_signature(GridBundle.of(model, {}), np.zeros((1, 1000, 50, 2, 4), np.float32))
    assert signature.inputs.inputs[0].shape == (-1, 1000, 50, 2, 4)
    assert signature.outputs.inputs[0].shape == (-1, 3, 3)
    assert asked == [(1, 1, 50, 2, 4)]


def test_mlflow_serves_it_and_takes_nan_for_an_absent_token(register):
    model, registered = register()
    served = mlflow.pyfunc.load_model(registered.uri)
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 3)).astype(np.float32)
    assert served.predict(x).shape == (3, 2, 3)
    x[1, :2, 1, 0] = np.nan
    valid = torch.from_numpy(~np.isnan(x).any(-1))
    expected = model.predict(torch.from_numpy(x), valid).numpy()
    assert np.allclose(served.predict(x), expected, atol=1e-6)
    with pytest.raises(mlflow.MlflowException):
        served.predict(x[:, :, :1])


def test_the_first_is_champion_and_another_only_where_its_edge_excludes_zero(registry, register):
    settings, name = registry.settings, ORDER_BOOK_MODEL
    with pytest.raises(ModelNotRegistered):
        load_sequence_bundle(settings, name)
    first, second = register()[1].version, register(1)[1].version
    assert "there was none" in settle_champion(settings, name, first, None)
    assert "already" in settle_champion(settings, name, first, None)
    for edge in (None, (-0.1, 0.2), (0.0, 0.1), (float("nan"), 0.1)):
        assert f"version {first} stays" in settle_champion(settings, name, second, edge)
    assert "better than 1 by [+0.1, +0.2]" in settle_champion(settings, name, second, (0.1, 0.2))
    assert sequence_at(settings, name).version == second
    assert sequence_at(settings, name).tags[RIVAL_TAG] == first, "the one to go back to"


def test_a_full_gpu_leaves_the_served_model_to_the_cpu_where_that_is_allowed(register, monkeypatch):
    model, _ = register()
    bundle = GridBundle.of(model, {"synthetic": True})
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 2, 3)).astype(np.float32)
    expected = GridForecaster(bundle).predict(x)
    build, full, places = GridBundle.model, torch.device("meta"), []

    def on(self, device=None):
        places.append(device)
        if device == full:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return build(self, device)

    monkeypatch.setattr(fallback, "default_device", lambda: full)
    monkeypatch.setattr(GridBundle, "model", on)
    with pytest.raises(OutOfMemory, match="do not fit the GPU"):
        GridForecaster(bundle)
    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", "cpu")
    np.testing.assert_array_equal(GridForecaster(bundle).predict(x), expected)
    assert places == [full, full, torch.device("cpu"), full]
