"""The programs of docs/registry.md as a stranger runs them, told only where MLflow is."""

import os
import subprocess
import sys

import pytest

from flash_pipeline.exchange import embedded_exchange
from flash_pipeline_tests.pages import PROJECT, blocks, text_of

PROGRAM, OPENED, *_ = blocks(text_of("docs/registry.md"), "python")
BYBIT = "https://api.bybit.com"


@pytest.fixture
def stranger(tracked, tracked_model, tmp_path):
    """Return a function that runs a program of the page in a project's folder of its own."""
    tracked.point("champion", tracked_model.version)
    (tmp_path / "data").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}

    def run(code, **variables):
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(PROJECT), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.slow
def test_the_program_gives_a_forecast_from_what_the_exchange_has_now(stranger, tracked):
    assert PROGRAM.count(BYBIT) == 1
    with embedded_exchange() as url:
        program = PROGRAM.replace(BYBIT, url)
        done = stranger(program, FLASH_PIPELINE_HOME=str(tracked.settings.home))
    assert done.returncode == 0, done.stderr
    kind, table = done.stdout.split("\n", 1)
    assert kind == "synthetic: True"
    columns = "symbol made_at horizon prediction lower upper"
    assert table.split()[:6] == columns.split()
    assert "BTCUSDT" in table
    assert "ETHUSDT" in table
    assert "NA" not in table


@pytest.mark.slow
def test_the_program_that_trusts_no_store_opens_the_champion(stranger, tracked):
    uri = f"sqlite:///{tracked.settings.mlflow_database}"
    done = stranger(OPENED + "\nprint(model.metadata.metadata['inputs'])", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stderr
    assert "BTCUSDT, ETHUSDT" in done.stdout
