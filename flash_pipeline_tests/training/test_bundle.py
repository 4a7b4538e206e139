import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from flash_pipeline.errors import BundleMismatch
from flash_pipeline.training.bundle import ModelBundle, autocast, default_device
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.targets import SimpleReturns, VolatilityScaler

CPU = torch.device("cpu")


@pytest.fixture
def stored(bundle, tmp_path):
    bundle.save(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(20))


def test_a_bundle_comes_back_as_it_was_saved(bundle, stored):
    again = ModelBundle.load(stored)
    assert again.weights.keys() == bundle.weights.keys()
    assert all(again.weights[name].equal(weight) for name, weight in bundle.weights.items())
    assert again.features.to_dict() == bundle.features.to_dict()
    assert again.targets.to_dict() == bundle.targets.to_dict()
    arrays = {"weights", "features", "targets"}
    for field in dataclasses.fields(ModelBundle):
        if field.name not in arrays:
            assert getattr(again, field.name) == getattr(bundle, field.name), field.name


@pytest.mark.parametrize(
    "targets",
    [
        VolatilityScaler(*(np.array([0.1, 0.2], np.float32) for _ in range(3)), horizon=24),
        SimpleReturns(24),
    ],
)
def test_the_scalers_come_back_as_what_they_were(bundle, tmp_path, targets):
    features = dataclasses.replace(bundle.features, kind="robust")
    dataclasses.replace(bundle, features=features, targets=targets).save(tmp_path)
    again = ModelBundle.load(tmp_path)
    assert again.features.kind == "robust"
    assert type(again.targets) is type(targets)
    assert again.targets.to_dict() == targets.to_dict()


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
    with pytest.raises(BundleMismatch, match="bundle of format 99: expected 2"):
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


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_default_device_is_the_gpu_where_there_is_one(monkeypatch, cuda, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert default_device().type == kind


def test_autocast_is_off_on_a_cpu():
    with autocast(CPU):
        assert not torch.is_autocast_enabled("cpu")
