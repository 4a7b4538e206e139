"""A pickle is never loaded, wherever it lies, and no secret is stored."""

import dataclasses
import logging
import os
import pickle
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
import yaml

from flash_pipeline.errors import BundleMismatch, FlashPipelineError, InvalidSetting
from flash_pipeline.settings import Settings
from flash_pipeline.training.baselines import load_baseline
from flash_pipeline.training.bundle import DESCRIPTION_FILE, WEIGHTS_FILE, ModelBundle
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.session import run_training
from flash_pipeline.training.tracking import Registry, open_model, track_training
from flash_pipeline.training.tracking.examples import example_candles
from flash_pipeline.training.trainer import train

CPU = torch.device("cpu")
SECRET = "ba5eba11"


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


@pytest.fixture
def trap(tmp_path):
    """Return the file that the pickle would write, and the pickle."""
    path = tmp_path / "written"
    planted = pickle.dumps(Malicious(path))
    pickle.loads(planted)
    path.unlink()  # it works
    yield path, planted
    assert not path.exists()


@pytest.mark.parametrize("name", [WEIGHTS_FILE, DESCRIPTION_FILE])
def test_a_pickle_in_a_bundle_is_refused(bundle, tmp_path, trap, name):
    bundle.save(tmp_path)
    (tmp_path / name).write_bytes(trap[1])
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        ModelBundle.load(tmp_path)


def test_a_pickle_beside_the_bundle_is_never_looked_at(bundle, tmp_path, trap):
    bundle.save(tmp_path)
    for name in ("python_model.pkl", "model.pt", "model.bin"):
        (tmp_path / name).write_bytes(trap[1])
    assert ModelBundle.load(tmp_path).symbols == bundle.symbols


def test_a_pickle_as_a_baseline_is_refused(tmp_path, trap):
    (tmp_path / "baseline.json").write_bytes(trap[1])
    (tmp_path / "model.pkl").write_bytes(trap[1])
    with pytest.raises(FlashPipelineError):
        load_baseline(tmp_path)


def test_a_pickle_as_a_checkpoint_is_left_aside(frame, split, make_recipe, tmp_path, trap, caplog):
    checkpoint = Checkpoint(tmp_path, "abc", "random weights", 0)
    checkpoint.path.write_bytes(trap[1])
    with caplog.at_level(logging.WARNING):
        training = train(frame, split, make_recipe(), device=CPU, checkpoint=checkpoint)
    assert "is not used: it cannot be read" in caplog.text
    assert training.resumed is None


@pytest.fixture
def stored(tracked, tracked_model, tmp_path):
    """Return a copy of the stored model's folder."""
    found = mlflow.artifacts.download_artifacts(artifact_uri=tracked_model.uri)
    return Path(shutil.copytree(found, tmp_path / "stored"))


@pytest.mark.parametrize("loader", ["mlflow.pyfunc.model", "mlflow.sklearn"])
def test_a_stored_model_that_points_at_a_pickle_is_refused(stored, trap, loader):
    path = stored / "MLmodel"
    described = yaml.safe_load(path.read_text())
    flavor = {"loader_module": loader, "python_model": "python_model.pkl", "python_version": "3.11"}
    if loader == "mlflow.sklearn":
        flavor |= {"model_path": "python_model.pkl", "data": "python_model.pkl"}
        described["flavors"]["sklearn"] = {
            "pickled_model": "python_model.pkl",
            "serialization_format": "pickle",
        }
    described["flavors"]["python_function"] = flavor
    path.write_text(yaml.safe_dump(described))
    (stored / "python_model.pkl").write_bytes(trap[1])
    with pytest.raises(mlflow.exceptions.MlflowException, match="is disallowed"):
        mlflow.pyfunc.load_model(str(stored))


@pytest.fixture
def planted(stored, trap):
    """Return a function that changes what the stored model's `MLmodel` says, and its folder."""
    (stored / "python_model.pkl").write_bytes(trap[1])
    (stored / "code").mkdir()
    (stored / "code" / "planted_loader.py").write_text(
        f"import os\nos.mknod({str(trap[0])!r})\n_load_pyfunc = None\n"
    )

    def change(**flavor):
        path = stored / "MLmodel"
        described = yaml.safe_load(path.read_text())
        described["flavors"]["python_function"] |= flavor
        path.write_text(yaml.safe_dump(described))
        return str(stored)

    return change


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loader_module": "mlflow.pyfunc.model"}, "names the loader 'mlflow.pyfunc.model'"),
        ({"loader_module": "planted_loader", "code": "code"}, "names the loader 'planted_loader'"),
        ({"loader_module": None}, "names the loader 'None'"),
        ({"code": "code"}, "brings code of its own"),
    ],
)
def test_a_program_opens_no_model_that_says_how_it_is_loaded(planted, monkeypatch, changes, words):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")  # MLflow's own default
    with pytest.raises(BundleMismatch, match=words):
        open_model(planted(**changes))


def test_a_program_reads_the_files_where_the_package_puts_them(planted, stored, bundle):
    """`data` may name a folder of someone else's: it is not asked."""
    (stored / "other").mkdir()
    given = open_model(planted(data="other"))
    candles, params = example_candles(bundle)
    assert given.predict(candles, params=params)["symbol"].tolist() == ["BTCUSDT", "ETHUSDT"]


def test_an_mlmodel_file_that_is_no_yaml_is_refused(stored):
    (stored / "MLmodel").write_bytes(b"\x80\x04}{: [")
    with pytest.raises(BundleMismatch, match="no MLmodel file that can be read"):
        open_model(str(stored))


def test_what_mlflow_loads_is_what_this_package_opens(tracked, tracked_model, bundle):
    candles, params = example_candles(bundle)
    uri = f"models:/{tracked_model.name}@challenger"
    loaded = mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    pd.testing.assert_frame_equal(
        open_model(uri).predict(candles, params=params), loaded.predict(candles, params=params)
    )


def test_weights_in_the_artifact_store_that_are_a_pickle_are_refused(stored, trap):
    (weights,) = stored.rglob(WEIGHTS_FILE)
    weights.write_bytes(trap[1])
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        mlflow.pyfunc.load_model(str(stored))


def test_no_secret_of_the_settings_is_stored_or_said(
    registry, frame, split, make_recipe, capfd, caplog
):
    settings = dataclasses.replace(
        registry.settings,
        webhook_url=f"https://hooks.example/{SECRET}",
    )
    registry.settings = settings
    with pytest.raises(InvalidSetting) as refused:
        dataclasses.replace(settings, bybit_urls=(f"https://me:{SECRET}@api.example",))
    assert SECRET not in str(refused.value)
    with caplog.at_level(logging.DEBUG):
        run_training(settings, frame, split, make_recipe(), tags={})
        words = f"no answer from postgresql://me:{SECRET}@host/x?password={SECRET}"
        with (
            pytest.raises(OSError, match="no answer"),
            track_training(registry, make_recipe(), "abc", {}),
        ):
            raise OSError(words)
        for uri in (
            f"file://me:{SECRET}@host/mlruns",
            f"http://me:{SECRET}@127.0.0.1:9",
            f"postgresql://me:{SECRET}@127.0.0.1:9/mlflow",
        ):
            with pytest.raises(FlashPipelineError) as caught:
                Registry(Settings(home=settings.home, tracking_uri=uri))
            assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert any(path.name.startswith("mlflow.db") for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
