"""Definitions load quickly: what they import, and what they leave to the assets."""

import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "mlflow", "matplotlib", "plotly", "sklearn", "lightgbm"),
    *("pandas", "scipy", "duckdb", "triton"),
)
PROGRAM = """
import sys, time
from flash_pipeline.definitions import defs
defs.get_repository_def().load_all_definitions()
print(time.process_time())
print(" ".join(sys.modules))
"""


@pytest.fixture(scope="module")
def loaded():
    """CPU seconds of a process that resolves all definitions, and the modules it has then."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    return float(told[0]), set(told[1].split())


def test_no_heavy_library_is_imported(loaded):
    _, modules = loaded
    assert "dagster" in modules
    assert modules.isdisjoint(HEAVY), sorted(modules & set(HEAVY))


def test_they_take_well_under_two_seconds_of_work(loaded):
    cpu, _ = loaded
    assert cpu < 2.5, "1 s on an idle machine, 2 s are the budget; this bound is for a busy one"
