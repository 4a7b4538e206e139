"""The registered model, loaded by a process that knows nothing but where MLflow is."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.tracking.served import signature

PROGRAM = """
import json, sys
import mlflow, numpy as np

model = mlflow.pyfunc.load_model("models:/flash-attention-trader@champion")
windows = np.load(sys.argv[1])
answer = {"signature": model.metadata.signature.inputs.to_dict()}
answer["predictions"] = model.predict(windows).tolist()
for name, bad in (("shape", windows[:, 1:]), ("dtype", windows.astype(np.float64))):
    try:
        answer[name] = str(model.predict(bad))
    except mlflow.exceptions.MlflowException as error:
        answer[name] = str(error)
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(5))


@pytest.fixture(scope="module")
def answer(tracked_home, tracked_model, windows, tmp_path_factory):
    """Return what a fresh process finds: the signature, predictions and refusals."""
    from flash_pipeline.settings import Settings
    from flash_pipeline.training.tracking import Registry

    settings = Settings(home=tracked_home)
    Registry(settings).point("champion", tracked_model.version)
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "windows.npy", windows)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "windows.npy"],
        cwd=folder,
        env={"MLFLOW_TRACKING_URI": settings.tracking_uri, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_fresh_process_predicts_as_the_predictor_does(answer, bundle, windows):
    expected_NS = Predictor(bundle, torch.device("cpu")).predict(windows)
    np.testing.assert_allclose(answer["predictions"], expected_NS, rtol=1e-5, atol=1e-8)


def test_windows_of_another_shape_are_refused_with_the_shape_expected(answer):
    assert "(-1, 8, 10)" in answer["shape"]
    assert "(5, 7, 10)" in answer["shape"]


def test_windows_of_another_dtype_are_refused(answer):
    assert "float32" in answer["dtype"]


def test_the_signature_is_a_float32_tensor_of_lookback_by_inputs(answer):
    assert answer["signature"] == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 8, 10]}}
    ]


def test_the_signature_tells_one_prediction_per_symbol(bundle):
    outputs = signature(bundle).outputs.inputs[0]
    assert (outputs.type, outputs.shape) == (np.dtype(np.float32), (-1, 2))
