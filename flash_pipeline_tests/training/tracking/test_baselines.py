"""Baselines in the registry: a version for each snapshot, served as the model is."""

from functools import partial

import mlflow
import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch, InvalidConfig, ModelError
from flash_pipeline.settings import Settings
from flash_pipeline.training.baseline_session import fit_baselines, ready_baselines
from flash_pipeline.training.baselines import Boosting, Ridge, Zero
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


@pytest.fixture
def ready(store, frame, split):
    def ready(*names, frame=frame, split=split):
        return ready_baselines(store, frame, split, SplitConfig(), names)

    return ready


def test_a_comparison_takes_the_registered_ones_and_fits_none_of_them_again(
    ready, first, frame, split, monkeypatch
):
    monkeypatch.setattr(Ridge, "fit", None)
    found = ready(*NAMES).baselines
    assert list(found) == list(NAMES)
    expected_NS = first.fitted["ridge"].baseline.predict(frame, split.test_N).value_NS
    np.testing.assert_array_equal(found["ridge"].predict(frame, split.test_N).value_NS, expected_NS)


def test_a_comparison_fits_what_is_not_registered_and_leaves_no_version(
    ready, store, make_panel, cut
):
    other = cut(make_panel(302))
    split = chronological_split(other, SplitConfig())
    before = store.client.search_model_versions()
    ready_there = ready("last_value", "ridge", frame=other, split=split).baselines
    expected_NS = Ridge.fit(other, split).predict(other, split.test_N).value_NS
    found_NS = ready_there["ridge"].predict(other, split.test_N).value_NS
    np.testing.assert_array_equal(found_NS, expected_NS)
    assert len(store.client.search_model_versions()) == len(before)


def test_one_that_this_version_cannot_read_is_fitted_again(ready, first, monkeypatch):
    def unreadable(*_):
        raise BundleMismatch("of an older format")

    monkeypatch.setattr(Zero, "load", unreadable)
    assert isinstance(ready("zero").baselines["zero"], Zero)


def test_one_that_cannot_run_here_is_left_out_with_the_reason(fit, ready, monkeypatch):
    monkeypatch.setattr(Boosting, "obstacle", classmethod(lambda _: "LightGBM cannot be loaded"))
    session, compared = fit(("zero", "boosting")), ready("zero", "boosting")
    assert set(session.fitted) == set(compared.baselines) == {"zero"}
    assert session.left_out == compared.left_out == {"boosting": "LightGBM cannot be loaded"}


@pytest.fixture
def breaks(monkeypatch):
    """Return a function that lets a method of a class of baselines fail."""

    def breaks(kind, method):
        def broken(*_, **__):
            raise OSError("libgomp.so.1:\n  no postgresql://me:secret@host/x")

        monkeypatch.setattr(kind, method, broken)

    return breaks


REASON = "OSError: libgomp.so.1: no postgresql://***@host/x"


@pytest.mark.parametrize("method", ["fit", "save", "predict", "obstacle"])
def test_one_that_fails_stops_none_of_the_others(
    method, breaks, frame, split, make_recipe, tmp_path
):
    breaks(Ridge, method)
    settings = Settings(home=tmp_path)
    session = fit_baselines(
        settings, frame, split, make_recipe(), tags={}, names=("zero", "ridge", "last_value")
    )
    assert set(session.fitted) == {"zero", "last_value"}
    assert session.left_out == {"ridge": REASON}
    assert Registry(settings).named(baseline_name("ridge")).at(NEWEST) is None


def test_where_all_fail_there_is_an_error_and_the_run_has_failed(
    breaks, frame, split, make_recipe, tmp_path
):
    breaks(Zero, "fit")
    settings = Settings(home=tmp_path)
    with pytest.raises(ModelError, match=r"no baseline could be fitted: zero: OSError: libgomp"):
        fit_baselines(settings, frame, split, make_recipe(), tags={}, names=("zero",))
    client = Registry(settings).client
    experiment = client.get_experiment_by_name(BASELINE_EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


def test_a_comparison_goes_on_without_one_that_can_neither_be_read_nor_fitted(ready, breaks):
    breaks(Ridge, "load")
    assert set(ready("zero", "ridge").baselines) == {"zero", "ridge"}
    breaks(Ridge, "fit")
    found = ready("zero", "ridge")
    assert (set(found.baselines), found.left_out) == ({"zero"}, {"ridge": REASON})


def test_an_alias_that_a_killed_run_left_behind_is_moved(frame, split, make_recipe, tmp_path):
    settings = Settings(home=tmp_path)
    fit = partial(fit_baselines, settings, frame, split, make_recipe(), tags={}, names=("zero",))
    model = fit().fitted["zero"].model
    named = Registry(settings).named(model.name)
    named.client.delete_registered_model_alias(model.name, NEWEST)
    assert fit().fitted["zero"].model == named.at(NEWEST) == model


def test_an_unknown_name_is_refused(fit, ready):
    told = "baselines oracle are unknown: expected some of zero"
    with pytest.raises(InvalidConfig, match=told):
        fit(("oracle",))
    with pytest.raises(InvalidConfig, match=told):
        ready("oracle")
