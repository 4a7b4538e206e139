"""The registered model over HTTP, as `mlflow models serve` gives it."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import requests

from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.tracking.examples import example_candles

WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def address(tracked_home, tracked_model):
    """Serve the version on loopback, and return where."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", tracked_model.uri]
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # uvicorn
    server = subprocess.Popen(
        [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
        cwd=tracked_home,
        env={
            **kept,
            "MLFLOW_TRACKING_URI": f"sqlite:///{tracked_home}/mlflow.db",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        start_new_session=True,
    )
    try:
        yield _answering(server, f"http://127.0.0.1:{port}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _answering(server, url):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{url}/ping", timeout=5).ok:
                return url
        except requests.ConnectionError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url}")


def ask(address, body):
    return requests.post(f"{address}/invocations", json=body, timeout=60)


def candles_of(bundle):
    table, params = example_candles(bundle)
    split = table.astype(str).to_dict("split")
    return {"dataframe_split": {k: split[k] for k in ("columns", "data")}, "params": params}


@pytest.mark.slow
def test_candles_are_answered_by_a_table(address, bundle):
    answer = ask(address, candles_of(bundle))
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    assert [row["symbol"] for row in rows] == ["BTCUSDT", "ETHUSDT"]
    assert all(row["lower"] < row["prediction"] < row["upper"] for row in rows)


@pytest.mark.slow
def test_windows_are_answered_as_the_predictor_does(address, bundle, frame):
    windows = frame.batch(np.arange(3))
    answer = ask(address, {"inputs": windows.tolist()})
    assert answer.status_code == 200, answer.text
    told = [row["prediction"] for row in answer.json()["predictions"]]
    expected_NS = Predictor(bundle).predict(windows)
    np.testing.assert_allclose(told, expected_NS.ravel(), rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_what_is_refused_is_told_why(address, bundle):
    body = candles_of(bundle)
    del body["dataframe_split"]["data"][3]
    answer = ask(address, body)
    assert answer.status_code == 400
    assert "BTCUSDT lacks the candle from" in answer.text
    assert "Expected: a DataFrame with the columns symbol, start_time" in answer.text
