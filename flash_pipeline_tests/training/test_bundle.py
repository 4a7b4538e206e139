"""Shape letters: N windows, L bars, I inputs per bar, S symbols."""

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.training.bundle import ModelBundle, Predictor, autocast, default_device

CPU = torch.device("cpu")


@pytest.fixture
def stored(bundle, tmp_path):
    bundle.save(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(20))


def with_head(bundle, head):
    """Return the bundle as one of another head, which has the same weights."""
    return dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, head=head))


def test_a_bundle_comes_back_as_it_was_saved(bundle, stored):
    again = ModelBundle.load(stored)
    assert again.weights.keys() == bundle.weights.keys()
    assert all(again.weights[name].equal(weight) for name, weight in bundle.weights.items())
    assert again.features.mean_SF.tobytes() == bundle.features.mean_SF.tobytes()
    assert again.features.std_SF.tobytes() == bundle.features.std_SF.tobytes()
    assert again.targets.std_S.tobytes() == bundle.targets.std_S.tobytes()
    arrays = {"weights", "features", "targets"}
    for field in dataclasses.fields(ModelBundle):
        if field.name not in arrays:
            assert getattr(again, field.name) == getattr(bundle, field.name), field.name


def test_a_loaded_bundle_predicts_the_same_bits(bundle, stored, windows):
    predictions_NS = Predictor(bundle, CPU).predict(windows)
    again_NS = Predictor(ModelBundle.load(stored), CPU).predict(windows)
    assert again_NS.tobytes() == predictions_NS.tobytes()


def test_the_features_keep_their_order(bundle, tmp_path):
    turned = dataclasses.replace(bundle, feature_names=bundle.feature_names[::-1])
    turned.save(tmp_path)
    assert ModelBundle.load(tmp_path).feature_names == turned.feature_names


def test_the_folder_holds_safetensors_and_json_and_no_pickle(stored):
    assert {path.name for path in stored.iterdir()} == {"model.safetensors", "bundle.json"}
    header = int.from_bytes((stored / "model.safetensors").read_bytes()[:8], "little")
    json.loads((stored / "model.safetensors").read_bytes()[8 : 8 + header])


def test_equal_bundles_make_equal_files(bundle, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        bundle.save(tmp_path / name)
    for name in ("model.safetensors", "bundle.json"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("one", "other"))
        assert one == other


@pytest.mark.parametrize("name", ["model.safetensors", "bundle.json"])
def test_a_bundle_with_a_missing_file_is_refused(stored, name):
    (stored / name).unlink()
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        ModelBundle.load(stored)


@pytest.mark.parametrize("name", ["model.safetensors", "bundle.json"])
def test_a_bundle_with_a_broken_file_is_refused(stored, name):
    (stored / name).write_bytes(b"{ broken")
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        ModelBundle.load(stored)


def test_a_bundle_of_another_format_is_refused(stored):
    path = stored / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(BundleMismatch, match="bundle of format 99: expected 1"):
        ModelBundle.load(stored)


class Planted:
    """Leaves a mark on the disk when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_never_run(stored):
    mark = stored / "unpickled"
    (stored / "model.safetensors").write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        ModelBundle.load(stored)
    assert not mark.exists()


def test_weights_of_another_architecture_are_refused(bundle):
    wider = dataclasses.replace(bundle, config=dataclasses.replace(bundle.config, d_ff=32))
    with pytest.raises(BundleMismatch, match="the weights do not fit the architecture"):
        wider.build()


@pytest.mark.parametrize(
    "change",
    [
        {"symbols": ("ETHUSDT", "BTCUSDT")},
        {"features": ("rsi",)},
        {"interval": "30"},
        {"lookback": 7},
        {"horizon": 2},
    ],
)
def test_a_bundle_serves_its_own_inputs_alone(bundle, change):
    own = {
        "symbols": list(bundle.symbols),
        "features": list(bundle.feature_names),
        "interval": "60",
        "lookback": 8,
        "horizon": 1,
    }
    assert bundle.serves(**own)
    assert not bundle.serves(**{**own, **change})


@pytest.mark.parametrize("shape", [(2, 7, 10), (2, 9, 10), (2, 8, 5), (8, 10), (2, 8, 2, 5)])
def test_windows_of_another_shape_are_refused_with_the_shape_expected(bundle, shape):
    with pytest.raises(BundleMismatch, match=r"expected \(n, 8, 10\), 2 symbols x 5 features"):
        Predictor(bundle, CPU).predict(np.zeros(shape, np.float32))


def test_no_window_gives_no_prediction(bundle, windows):
    assert Predictor(bundle, CPU).predict(windows[:0]).shape == (0, 2)


def test_predictions_are_float32_one_per_symbol(bundle, windows):
    predictions_NS = Predictor(bundle, CPU).predict(windows)
    assert predictions_NS.shape == (20, 2)
    assert predictions_NS.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_no_more_than_rounding(bundle, windows, batch_size):
    predictor = Predictor(bundle, CPU)
    np.testing.assert_allclose(
        predictor.predict(windows, batch_size), predictor.predict(windows), rtol=1e-4, atol=1e-7
    )


def test_an_unknown_value_counts_as_the_mean(bundle, windows):
    unknown, mean = windows.copy(), windows.copy()
    unknown[:, -1, 0] = math.nan
    mean[:, -1, 0] = bundle.features.mean_SF[0, 0]
    predictor = Predictor(bundle, CPU)
    np.testing.assert_array_equal(predictor.predict(unknown), predictor.predict(mean))


def test_a_bar_that_every_symbol_lacks_is_masked(bundle, windows):
    absent, shorter = windows.copy(), windows.copy()
    absent[:, :3] = math.nan
    shorter[:, :3, ::5] = math.nan  # one feature of each symbol: no symbol is whole
    predictor = Predictor(bundle, CPU)
    np.testing.assert_array_equal(predictor.predict(absent), predictor.predict(shorter))
    assert not np.allclose(predictor.predict(absent), predictor.predict(windows))


@pytest.mark.parametrize(
    ("head", "neutral"), [("regression", 0.0), ("direction", 0.5), ("allocation", 0.0)]
)
def test_a_window_of_nothing_known_gets_the_neutral_answer(bundle, windows, head, neutral):
    predictor = Predictor(with_head(bundle, head), CPU)
    assert predictor.predict(np.full_like(windows[:2], math.nan)).tolist() == [[neutral] * 2] * 2


def test_a_regression_is_told_in_log_returns_and_the_rest_as_it_is(bundle):
    outputs_NS = np.array([[0.5, -0.25]], np.float32)
    np.testing.assert_array_equal(bundle.to_units(outputs_NS), outputs_NS * bundle.targets.std_S)
    for head in ("direction", "allocation"):
        np.testing.assert_array_equal(with_head(bundle, head).to_units(outputs_NS), outputs_NS)


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_default_device_is_the_gpu_where_there_is_one(monkeypatch, cuda, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert default_device().type == kind


def test_autocast_is_off_on_a_cpu():
    with autocast(CPU):
        assert not torch.is_autocast_enabled("cpu")
