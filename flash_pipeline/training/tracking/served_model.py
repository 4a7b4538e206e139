"""What MLflow calls to open the registered model."""

from pathlib import Path

from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.tracking.served import Forecaster


def _load_pyfunc(folder: str) -> Forecaster:
    return Forecaster(ModelBundle.load(Path(folder)))
