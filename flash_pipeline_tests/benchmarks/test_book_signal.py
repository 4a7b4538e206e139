"""The script that looks for the planted signal, on its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "book_signal.py"

GUARDED = """
import runpy, sys
for name in ("dagster", "mlflow", "duckdb", "pandas", "requests", "starlette"):
    sys.modules[name] = None  # an import of it fails
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_it_needs_torch_numpy_and_pyarrow_alone_and_stores_what_it_found(tmp_path):
    sizes = "--small --hours 0.5 --levels 3 --history 4 --stride 10 --epochs 1 --batch 16 --no-lean"
    command = [sys.executable, "-c", GUARDED, str(SCRIPT), *sizes.split(), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "book_signal.json").read_text())
    assert set(found["verdicts"]) == {"joint", "axial"}
    assert {row["horizon"] for row in found["scores"]} == {0, 1, 10, 30}
    assert found["options"]["no_lean"]
    models = {"imbalance", "order flow", "state", "joint", "axial"}
    for rows in (found["scores"], found["scores_over_state"]):
        assert {row["model"] for row in rows} == models
    with np.load(tmp_path / "probabilities.npz", allow_pickle=False) as told:
        assert set(told.files) == {"time", "label", "move", *models}
        np.testing.assert_allclose(told["joint"].sum(-1), 1, atol=2e-3)
    assert "joint: " in done.stdout
