"""Baselines in the registry: a version for each snapshot, served as the model is."""

import mlflow
import numpy as np
import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.settings import Settings
from flash_pipeline.training.baseline_session import fit_baselines
from flash_pipeline.training.baselines import Boosting
from flash_pipeline.training.tracking import Registry
from flash_pipeline.training.tracking.baselines import (
    BASELINE_EXPERIMENT,
    NEWEST,
    baseline_name,
    stored_baseline,
)
from flash_pipeline.windows import SplitConfig, chronological_split

NAMES = ("zero", "seasonal", "ridge")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("baselines")


@pytest.fixture(scope="module")
def fit(home, frame, split, make_recipe):
    def fit(names=NAMES, frame=frame, split=split):
        tags = {"dagster_run_id": "abc"}
        return fit_baselines(
            Settings(home=home), frame, split, make_recipe(), tags=tags, names=names
        )

    return fit


@pytest.fixture(scope="module")
def first(fit):
    return fit()


@pytest.fixture
def store(home, first):
    return Registry(Settings(home=home))


def test_each_is_a_registered_model_with_an_alias(store, first, frame):
    for name in NAMES:
        version = store.named(baseline_name(name)).at(NEWEST)
        assert version == first.fitted[name].model
        assert version.version == "1"
        assert version.tags["snapshot"] == frame.snapshot
        assert version.tags["dagster_run_id"] == "abc"


def test_they_share_a_run_of_an_experiment_of_their_own(store, first):
    (run_id,) = {each.model.run_id for each in first.fitted.values()}
    run = store.client.get_run(run_id)
    assert store.client.get_experiment(run.info.experiment_id).name == BASELINE_EXPERIMENT
    assert run.info.status == "FINISHED"
    assert run.data.metrics["zero.validation_r2_against_zero"] == 0
    found = first.fitted["ridge"].r2_against_zero
    assert run.data.metrics["ridge.validation_r2_against_zero"] == found


def test_the_models_own_registry_knows_none_of_them(store, first):
    assert store.at(NEWEST) is None
    assert store.at("challenger") is None


def test_an_equal_fit_is_not_repeated_and_one_on_other_windows_is(fit, first, make_panel, cut):
    again = fit()
    assert {n: e.model for n, e in again.fitted.items()} == {
        n: e.model for n, e in first.fitted.items()
    }
    assert all(each.seconds == 0 for each in again.fitted.values())
    other = cut(make_panel(301))
    later = fit(("zero",), other, chronological_split(other, SplitConfig()))
    assert later.fitted["zero"].model.version == "2"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_served_by_pyfunc_as_it_predicts(store, first, frame, split, name):
    baseline, index_N = first.fitted[name].baseline, split.test_N[:5]
    served = mlflow.pyfunc.load_model(first.fitted[name].model.uri)
    params = {"made_at": frame.made_at_N[index_N].tolist()} if baseline.timed else None
    told_NS = served.predict(frame.batch(index_N), params=params)
    np.testing.assert_allclose(told_NS, baseline.predict(frame, index_N).value_NS, rtol=1e-6)


def test_one_that_knows_the_hour_is_not_served_without_it(store, first, frame):
    served = mlflow.pyfunc.load_model(first.fitted["seasonal"].model.uri)
    with pytest.raises(Exception, match="made_at of shape"):
        served.predict(frame.batch(np.arange(2)))


def test_the_registered_one_is_the_fitted_one(store, first, frame, split):
    again = stored_baseline(first.fitted["ridge"].model)
    expected_NS = first.fitted["ridge"].baseline.predict(frame, split.test_N).value_NS
    np.testing.assert_array_equal(again.predict(frame, split.test_N).value_NS, expected_NS)


def test_the_stored_baselines_hold_no_pickle(home, first):
    stored = [path.suffix for path in home.glob("mlflow-artifacts/**/*") if path.is_file()]
    assert not {".pkl", ".pickle", ".pt", ".pth", ".bin"} & set(stored)


def test_one_that_cannot_run_here_is_left_out_with_the_reason(fit, monkeypatch):
    monkeypatch.setattr(Boosting, "obstacle", classmethod(lambda _: "LightGBM cannot be loaded"))
    session = fit(("zero", "boosting"))
    assert set(session.fitted) == {"zero"}
    assert session.left_out == {"boosting": "LightGBM cannot be loaded"}


def test_an_unknown_name_is_refused(fit):
    with pytest.raises(InvalidConfig, match="baselines oracle are unknown: expected some of zero"):
        fit(("oracle",))
