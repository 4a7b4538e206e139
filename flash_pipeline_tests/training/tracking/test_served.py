"""The registered model, loaded by a process that knows nothing but where MLflow is."""

import json
import os
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from flash_pipeline.errors import InvalidInput, OutOfMemory
from flash_pipeline.features import WARMUP_BARS, compute_features
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.training import fallback
from flash_pipeline.training.memory import pass_explained
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.tracking import Registry
from flash_pipeline.training.tracking.examples import example_candles
from flash_pipeline.training.tracking.served import Forecaster

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000
BARS = 8 + WARMUP_BARS - 1
NOW = FIRST_MS + BARS * HOUR_MS
COLUMNS = ["symbol", "made_at", "horizon", "prediction", "lower", "upper"]

PROGRAM = """
import json, sys
import mlflow, numpy as np, pandas as pd

model = mlflow.pyfunc.load_model("models:/flash-attention-trader@champion")
windows = np.load(sys.argv[1])
candles = pd.read_json(sys.argv[2], dtype=False)
answer = {"inputs": model.metadata.metadata["inputs"]}
answer["windows"] = model.predict(windows).to_dict("list")
answer["candles"] = model.predict(candles, params={"as_of": int(sys.argv[3])}).to_dict("records")
answer["example"] = len(model.predict(model.input_example, params={"as_of": int(
    model.input_example.start_time.max()) + 3_600_000}))
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(5))


@pytest.fixture(scope="module")
def candles(bundle):
    """Return as many candles as a prediction takes, of two symbols, oldest first."""
    table, _ = example_candles(bundle)
    start_N = np.tile(FIRST_MS + HOUR_MS * np.arange(BARS), 2)
    return table.assign(start_time=start_N)


@pytest.fixture(scope="module")
def champion(tracked_home, tracked_model):
    settings = Settings(home=tracked_home)
    Registry(settings).point("champion", tracked_model.version)
    return settings


@pytest.fixture(scope="module")
def served(champion):
    Registry(champion)
    return mlflow.pyfunc.load_model("models:/flash-attention-trader@champion")


def predict(served, given, **params):
    return served.predict(given, params=params)


@pytest.fixture(scope="module")
def answer(champion, windows, candles, tmp_path_factory):
    """Return what a fresh process finds."""
    folder = tmp_path_factory.mktemp("elsewhere")
    np.save(folder / "windows.npy", windows)
    candles.astype(str).to_json(folder / "candles.json", orient="records")
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "windows.npy", "candles.json", str(NOW)],
        cwd=folder,
        env={"MLFLOW_TRACKING_URI": champion.tracking_uri, **kept},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_fresh_process_predicts_from_windows_as_the_predictor_does(answer, bundle, windows):
    expected_NS = Predictor(bundle, torch.device("cpu")).predict(windows)
    told = answer["windows"]
    np.testing.assert_allclose(told["prediction"], expected_NS.ravel(), rtol=1e-5, atol=1e-8)
    assert told["window"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert told["symbol"] == ["BTCUSDT", "ETHUSDT"] * 5


def test_a_fresh_process_predicts_from_candles_with_numbers_as_strings(answer, bundle):
    first, second = answer["candles"]
    assert list(first) == COLUMNS
    assert (first["symbol"], second["symbol"]) == ("BTCUSDT", "ETHUSDT")
    assert (first["made_at"], first["horizon"]) == (NOW, bundle.horizon)
    assert first["lower"] < first["prediction"] < first["upper"]


def test_the_logged_example_is_taken(answer):
    assert answer["example"] == 2


def test_the_model_tells_what_it_takes(answer):
    assert f"the newest {BARS} or more closed candles of interval 60" in answer["inputs"]
    assert "(n, 8, 10)" in answer["inputs"]


def test_candles_give_what_their_features_give(served, candles):
    told = predict(served, candles, as_of=NOW)
    table = compute_features(_arrow(candles), Interval.HOUR_1).to_pandas()
    names = list(table.columns[4:])
    x_LSF = table[names].to_numpy(np.float32).reshape(BARS, 2, -1)[-8:]
    again = predict(served, x_LSF.reshape(1, 8, -1), made_at=[NOW])
    pd.testing.assert_frame_equal(told, again.drop(columns="window"), rtol=1e-5)


def test_either_order_and_more_than_is_needed_give_the_same(served, candles):
    told = predict(served, candles, as_of=NOW)
    newest_first = candles.iloc[::-1].rename(columns={"start_time": "open_time"})
    other = candles.assign(symbol="XRPUSDT", turnover="1.5")
    pd.testing.assert_frame_equal(told, predict(served, newest_first, as_of=NOW))
    pd.testing.assert_frame_equal(told, predict(served, pd.concat([other, candles]), as_of=NOW))
    stamped = candles.assign(start_time=pd.to_datetime(candles.start_time, unit="ms", utc=True))
    pd.testing.assert_frame_equal(told, predict(served, stamped, as_of=NOW))


def test_what_is_left_out_may_hold_anything(served, candles):
    told = predict(served, candles, as_of=NOW)
    nobody = candles.assign(symbol="XRPUSDT", start_time=np.nan, close="much")
    older = candles.groupby("symbol").head(1)
    older = older.assign(start_time=older.start_time - HOUR_MS, close=np.nan, high=-1.0)
    more = pd.concat([nobody, older, candles])
    pd.testing.assert_frame_equal(told, predict(served, more, as_of=NOW))


def test_null_stands_for_a_parameters_default(bundle, windows, candles):
    forecaster = Forecaster(bundle)
    none = dict.fromkeys(("as_of", "max_age_bars", "made_at", "symbols", "features"))
    pd.testing.assert_frame_equal(forecaster.predict(windows), forecaster.predict(windows, none))
    with pytest.raises(InvalidInput, match="more than 2 bars before"):
        forecaster.predict(candles, none)


def test_windows_without_a_time_have_none(served, windows):
    assert predict(served, windows).made_at.isna().all()
    assert list(predict(served, windows[:1].astype(np.float64)).columns) == ["window", *COLUMNS]


CPU, FULL_GPU = torch.device("cpu"), torch.device("meta")


@pytest.fixture(scope="module")
def wanted(served, windows):
    return predict(served, windows)


@pytest.fixture
def asked(monkeypatch):
    """Give this machine a GPU with room for the weights alone; return who was asked for a pass."""
    asked, real = [], Predictor.predict_windows

    def full(self, x_NLI, batch_size=None):
        asked.append(self.device)
        if self.device == FULL_GPU:
            with pass_explained(self.bundle.config, len(x_NLI), self.bundle.lookback):
                raise torch.OutOfMemoryError("CUDA out of memory.\nMore.")
        return real(self, x_NLI, batch_size)

    monkeypatch.setattr(fallback, "default_device", lambda: FULL_GPU)
    monkeypatch.setattr(Predictor, "predict_windows", full)
    return asked


@pytest.mark.parametrize("choice", ["cpu", "skip"])
def test_a_pass_that_does_not_fit_the_gpu_is_made_on_the_cpu_and_the_next_asks_again(
    bundle, windows, wanted, asked, monkeypatch, caplog, choice
):
    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", choice)
    forecaster = Forecaster(bundle)
    for _ in range(2):
        pd.testing.assert_frame_equal(forecaster.predict(windows), wanted)
    assert asked == [FULL_GPU, CPU, FULL_GPU, CPU]
    assert "predicted on the CPU: a pass without gradients over 5 windows" in caplog.text


def test_a_pass_that_does_not_fit_the_gpu_fails_where_that_is_the_setting(bundle, windows, asked):
    with pytest.raises(OutOfMemory, match="a pass without gradients"):
        Forecaster(bundle).predict(windows)
    assert asked == [FULL_GPU]


@pytest.mark.usefixtures("no_room_for_weights")
@pytest.mark.parametrize(("choice", "fits"), [("cpu", True), ("fail", False)])
def test_weights_that_do_not_fit_the_gpu_are_told_of_as_the_model_is_loaded(
    bundle, windows, asked, monkeypatch, choice, fits
):
    monkeypatch.setenv("FLASH_PIPELINE_ON_GPU_TROUBLE", choice)
    if fits:
        assert Forecaster(bundle).predict(windows)["prediction"].notna().all()
        assert asked == [CPU]
    else:
        with pytest.raises(OutOfMemory, match="do not fit the GPU"):
            Forecaster(bundle)


def without(row):
    return lambda table: table.drop(index=row)


REFUSED = {
    "symbol": (lambda t: t[t.symbol == "BTCUSDT"], "symbol ETHUSDT is missing"),
    "column": (lambda t: t.drop(columns="close"), r"columns .* lack close"),
    "gap": (without(4), "BTCUSDT lacks the candle from 2024-01-01T04:00Z"),
    "short": (lambda t: t[t.start_time > FIRST_MS], "BTCUSDT|too few"),
    "late symbol": (without(range(BARS, BARS + 3)), "ETHUSDT begins at 2024-01-01T03:00Z"),
    "old symbol": (without(2 * BARS - 1), "ETHUSDT lacks the candle"),
    "twice": (lambda t: pd.concat([t.iloc[:5], t.iloc[4:]]), "04:00Z twice"),
    "order": (lambda t: t.iloc[[1, 0, *range(2, len(t))]], "out of order"),
    "grid": (lambda t: t.assign(start_time=t.start_time + 1), "off the grid"),
    "words": (lambda t: t.assign(close="much"), "column close holds what is no number"),
    "missing": (lambda t: t.assign(volume=np.nan), "column volume holds a value that is missing"),
    "prices": (lambda t: t.assign(high=t.low / 2), "is no candle"),
    "truth": (lambda t: t.assign(close=True), "column close holds what is no number: true or"),
    "some truth": (
        lambda t: t.assign(close=t.close.astype(object).mask(t.index == 5, True)),
        "column close holds what is no number: true or false",
    ),
    "us": (lambda t: t.assign(start_time=t.start_time * 1000), "expected whole milliseconds"),
    "ns": (lambda t: t.assign(start_time=t.start_time * 10**6), r"holds 1\.70\d+e\+18: expected"),
    "seconds": (lambda t: t.assign(start_time=t.start_time // 1000), "expected whole milliseconds"),
    "fraction": (lambda t: t.assign(start_time=t.start_time + 0.5), "expected whole milliseconds"),
    "no start": (lambda t: t.assign(start_time=t.start_time.mask(t.index == 3)), "is missing or"),
    "two closes": (lambda t: pd.concat([t, t[["close"]]], axis=1), "hold close more than once"),
    "two starts": (lambda t: pd.concat([t, t[["start_time"]]], axis=1), "start_time more than"),
    "two symbols": (lambda t: pd.concat([t, t[["symbol"]]], axis=1), "symbol more than once"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_candles_that_cannot_be_used_are_refused(served, candles, case):
    spoil, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as caught:
        predict(served, spoil(candles), as_of=NOW)
    assert "Expected: a DataFrame with the columns symbol, start_time" in str(caught.value)


@pytest.mark.parametrize("unit", [10**3, 10**6])
def test_a_present_instant_of_another_unit_is_refused(served, candles, unit):
    with pytest.raises(ValueError, match=r"as_of is 1.*: expected milliseconds since the epoch"):
        predict(served, candles, as_of=NOW * unit)


@pytest.mark.parametrize("given", [{"made_at": [NOW]}, {"symbols": ["A"]}, {"features": ["a"]}])
def test_parameters_of_windows_are_refused_with_candles(served, candles, given):
    with pytest.raises(ValueError, match=f"the parameter {next(iter(given))} is for windows"):
        predict(served, candles, as_of=NOW, **given)


def test_a_forming_candle_is_refused(served, candles):
    with pytest.raises(ValueError, match="is still forming at 2024-01-02T0"):
        predict(served, candles, as_of=NOW - 1)


def test_stale_candles_are_refused_unless_the_instant_is_given(served, candles):
    with pytest.raises(ValueError, match="more than 2 bars before"):
        predict(served, candles)
    with pytest.raises(ValueError, match="more than 2 bars before"):
        predict(served, candles, as_of=NOW + 2 * HOUR_MS + 1)
    predict(served, candles, as_of=NOW + 2 * HOUR_MS)
    predict(served, candles, as_of=NOW + 5 * HOUR_MS, max_age_bars=5)


BAD_ARRAYS = {
    "shape": (lambda x: x[:, 1:], {}, r"an array of shape \(5, 7, 10\)"),
    "words": (lambda x: x.astype(str), {}, "an array of <U"),
    "symbols": (lambda x: x, {"symbols": ["ETHUSDT", "BTCUSDT"]}, "symbols in the order ETHUSDT"),
    "features": (lambda x: x, {"features": ["rsi"]}, "features in the order rsi"),
    "times": (lambda x: x, {"made_at": [1]}, "1 values of made_at for 5 windows"),
    "ragged": (lambda x: [x[0].tolist(), [[1.0]]], {}, "no array of numbers"),
    "objects": (lambda _: {"a": 1}, {}, "no array of numbers"),
    "now": (lambda x: x, {"as_of": NOW}, "the parameter as_of is for candles"),
    "age": (lambda x: x, {"max_age_bars": 5}, "the parameter max_age_bars is for candles"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_cannot_be_used_are_refused(served, windows, case):
    spoil, params, message = BAD_ARRAYS[case]
    with pytest.raises(ValueError, match=message) as caught:
        predict(served, spoil(windows), **params)
    assert "or an array of floats (n, 8, 10) of unscaled features" in str(caught.value)


def _arrow(candles):
    import pyarrow as pa

    return pa.Table.from_pandas(candles, preserve_index=False)
