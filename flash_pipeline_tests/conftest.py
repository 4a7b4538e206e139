"""Every test gets a home of its own and no settings of the person who runs it."""

import os
from pathlib import Path

import pytest

# Read when torch is imported, by child processes too. The tests' models are too small to gain from
# threads, and threads of workers side by side wait for one another: seventeen times the duration.
os.environ.setdefault("OMP_NUM_THREADS", "1")

VARIABLES = (
    "FLASH_PIPELINE_HOME",
    "FLASH_PIPELINE_BYBIT_URL",
    "FLASH_PIPELINE_YAHOO",
    "FLASH_PIPELINE_YAHOO_URL",
    "FLASH_PIPELINE_RECIPE",
    "FLASH_PIPELINE_WEBHOOK_URL",
    "FLASH_PIPELINE_STALE_BARS",
    "FLASH_PIPELINE_ON_GPU_TROUBLE",
    "FLASH_PIPELINE_FREE_DISK_GIB",
    "FLASH_PIPELINE_FREE_MEMORY_GIB",
    "FLASH_PIPELINE_MLFLOW_UI",
    "MLFLOW_TRACKING_URI",
    "DAGSTER_HOME",
)


@pytest.fixture(autouse=True)
def isolated_settings(monkeypatch, tmp_path):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLASH_PIPELINE_RECIPE", "demo")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded candles, as its README describes them."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "market"
    folder = Path(os.environ.get("FLASH_PIPELINE_REAL_DATA", beside))
    if not (folder / "BTCUSDT_60.parquet").is_file():
        pytest.skip(f"no recorded candles in {folder}: set FLASH_PIPELINE_REAL_DATA")
    return folder
