"""What loads without what: the model alone needs torch, Dagster's definitions do not."""

import subprocess
import sys

import pytest

BLOCK = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
importlib.import_module({module!r})
"""
LOADED = """
import sys
import {module}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "module",
    [
        "flash_pipeline.model.trader",
        "flash_pipeline.windows",
        "flash_pipeline.windows.dataset",
        "flash_pipeline.training.recipes",
        "flash_pipeline.training.trainer",
    ],
)
def test_model_windows_and_training_load_without_the_frameworks_around_them(module):
    packages = {"dagster", "mlflow", "duckdb", "requests"}
    done = python(BLOCK.format(packages=packages, module=module))
    assert done.returncode == 0, done.stderr


def test_a_blocked_package_would_be_noticed():
    done = python(BLOCK.format(packages={"dagster"}, module="flash_pipeline.definitions"))
    assert "dagster is blocked" in done.stderr


def test_the_definitions_load_none_of_the_heavy_packages():
    done = python(LOADED.format(module="flash_pipeline.definitions"))
    assert done.returncode == 0, done.stderr
    assert {"torch", "mlflow", "matplotlib"}.isdisjoint(done.stdout.split())
    assert "dagster" in done.stdout.split()
