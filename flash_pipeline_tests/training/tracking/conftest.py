import os
import shutil

import pytest
import torch

from flash_pipeline.settings import Settings
from flash_pipeline.training.tracking import Registry, track_training
from flash_pipeline.training.trainer import train

CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def variables():
    """Return the process's own MLflow variables, as they were before these tests."""
    return {name: value for name, value in os.environ.items() if "MLFLOW" in name}


@pytest.fixture(autouse=True)
def _variables_given_back(variables):
    """Leave no trace in the environment: MLflow keeps its address there."""
    yield
    for name in [name for name in os.environ if "MLFLOW" in name]:
        del os.environ[name]
    os.environ.update(variables)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Return an MLflow database with its tables made, which takes a second."""
    home = tmp_path_factory.mktemp("empty")
    Registry(Settings(home=home))
    return home / "mlflow.db"


@pytest.fixture
def registry(empty_store, tmp_path):
    """Return a registry of no model, below the test's own home."""
    for name in ("", "-wal", "-shm"):
        part = empty_store.with_name(empty_store.name + name)
        if part.exists():
            shutil.copy(part, tmp_path)
    return Registry(Settings(home=tmp_path))


@pytest.fixture(scope="session")
def tracked_home(tmp_path_factory):
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(scope="session")
def tracked_model(tracked_home, empty_store, frame, split, make_recipe):
    """Return the registered version of one tracked training of three epochs."""
    shared = Registry(Settings(home=tracked_home))
    with track_training(shared, make_recipe(), frame.snapshot, {"dagster_run": "abc"}) as run:
        run.log_data(frame, split)
        training = train(frame, split, make_recipe(), device=CPU, on_epoch=run.log_epoch)
        return run.register(training)


@pytest.fixture
def tracked(tracked_home, tracked_model):
    """Return the registry that holds the tracked training, MLflow pointed at it."""
    return Registry(Settings(home=tracked_home))
