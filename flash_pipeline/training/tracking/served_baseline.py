"""What MLflow calls to open a registered baseline."""

from pathlib import Path

from flash_pipeline.training.baselines import load_baseline
from flash_pipeline.training.tracking.served import BaselineForecaster


def _load_pyfunc(folder: str) -> BaselineForecaster:
    return BaselineForecaster(load_baseline(Path(folder)))
