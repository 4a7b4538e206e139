"""What MLflow calls to open a registered model of a grid of tokens."""

from pathlib import Path

from flash_pipeline.training.grid_bundle import GridBundle
from flash_pipeline.training.tracking.served_grid import GridForecaster


def _load_pyfunc(folder: str) -> GridForecaster:
    return GridForecaster(GridBundle.load(Path(folder)))
