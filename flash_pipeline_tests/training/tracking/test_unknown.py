"""What a symbol is told whose newest bar is not known, and what JSON says of it."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations

from flash_pipeline.training.tracking.examples import example_candles
from flash_pipeline.training.tracking.served import Forecaster, signature

FLAVOR = {"python_function": {"loader_module": "flash_pipeline"}}
TOLD = ["prediction", "lower", "upper"]


@pytest.fixture(scope="module")
def forecaster(bundle):
    return Forecaster(bundle)


@pytest.fixture
def window(frame):
    """Return one window of two symbols, five features each."""
    return frame.batch(np.arange(1)).copy()


def posted(forecaster, body):
    """Return what MLflow's server answers to a body."""
    served = PyFuncModel(Model(signature=signature(), flavors=FLAVOR), forecaster)
    answer = invocations(json.dumps(body), "application/json", served, None)
    assert answer.status == 200

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(answer.response, parse_constant=refuse)["predictions"]


@pytest.mark.parametrize("unknown", [np.nan, np.inf, 1e300])
def test_a_symbol_whose_newest_bar_lacks_a_feature_has_no_number(forecaster, window, unknown):
    given = window.astype(np.float64)
    given[0, -1, 7] = unknown
    told = forecaster.predict(given)
    assert told.loc[1, TOLD].isna().all()
    assert np.isfinite(told.loc[0, TOLD].astype(float)).all()


def test_a_gap_further_back_hides_nothing(forecaster, window):
    window[0, :-1, 7] = np.nan
    assert forecaster.predict(window)[TOLD].notna().all(axis=None)


def test_a_window_of_nothing_has_no_number(forecaster, window):
    told = forecaster.predict(np.full_like(window, np.nan))
    assert told[TOLD].isna().all(axis=None)


def test_candles_that_nobody_traded_have_no_number(forecaster, bundle):
    candles, params = example_candles(bundle)
    candles.loc[candles.symbol == "ETHUSDT", "volume"] = 0.0
    told = forecaster.predict(candles, params)
    assert told["made_at"].tolist() == [params["as_of"]] * 2
    assert told.loc[1, TOLD].isna().all()
    assert told.loc[0, TOLD].notna().all()


@pytest.mark.parametrize("columns", [["close", "high"], ["volume"]])
@pytest.mark.parametrize("beyond", [1e300, 1e308])
def test_a_figure_beyond_all_bounds_makes_no_infinite_number(forecaster, bundle, columns, beyond):
    candles, params = example_candles(bundle)
    candles.loc[candles.index[-3:], columns] = beyond
    told = forecaster.predict(candles, params)
    assert not np.isinf(told[TOLD].astype(float)).any(axis=None)


def test_json_gives_and_takes_null_where_nothing_is_known(forecaster, window):
    body = {"inputs": window.astype(object).tolist()}
    body["inputs"][0][-1][7] = None
    first, second = posted(forecaster, body)
    assert {name: second[name] for name in ("made_at", *TOLD)} == dict.fromkeys(("made_at", *TOLD))
    assert all(isinstance(first[name], float) for name in TOLD)
    body["inputs"][0][-1][7] = float(np.float32(0.5))
    assert all(isinstance(row[name], float) for row in posted(forecaster, body) for name in TOLD)


def test_json_gives_null_for_bounds_that_a_head_has_not(bundle, window):
    plain = Forecaster(dataclasses.replace(bundle, half_width_S=None))
    for row in posted(plain, {"inputs": window.tolist()}):
        assert (row["lower"], row["upper"]) == (None, None)
        assert isinstance(row["prediction"], float)


def test_a_null_parameter_of_json_is_the_default(forecaster, window):
    body = {"inputs": window.tolist(), "params": {"as_of": None}}
    assert pd.DataFrame(posted(forecaster, body))["prediction"].notna().all()
