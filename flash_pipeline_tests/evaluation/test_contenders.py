import dataclasses

import numpy as np
import pytest

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.evaluation import contenders as module
from flash_pipeline.evaluation.contenders import (
    CONTENDERS,
    Network,
    contenders,
    load_forecaster,
)
from flash_pipeline.evaluation.trading import predict_windows
from flash_pipeline.training.baselines import BASELINES, Zero
from flash_pipeline.windows import (
    PurgedConfig,
    WalkForwardConfig,
    purged_folds,
    walk_forward,
)


@pytest.fixture
def fold(frame):
    return walk_forward(frame, WalkForwardConfig(folds=1))[0]


@pytest.fixture
def members(make_bundle):
    return tuple(make_bundle(seed=seed) for seed in range(3))


@pytest.fixture
def newest(frame):
    return np.arange(len(frame.anchor_N) - 20, len(frame.anchor_N))


def test_one_member_predicts_as_the_model_itself(frame, members, newest):
    told = Network(members[:1]).predict(frame, newest)
    expected = predict_windows(frame, members[0], newest)
    np.testing.assert_array_equal(told.value_NS, expected.value_NS)


def test_an_ensemble_predicts_the_mean_of_its_members(frame, members, newest):
    told = Network(members).predict(frame, newest).value_NS
    each = [predict_windows(frame, member, newest).value_NS for member in members]
    np.testing.assert_allclose(told, np.mean(each, axis=0), rtol=1e-6)


def test_an_ensemble_of_quantiles_is_averaged_level_by_level(frame, make_bundle, newest):
    members = tuple(make_bundle(seed=seed, head="quantile") for seed in range(2))
    told = Network(members).predict(frame, newest)
    each = [predict_windows(frame, member, newest).quantiles_NSQ for member in members]
    np.testing.assert_allclose(told.quantiles_NSQ, np.mean(each, axis=0), rtol=1e-6)
    assert (np.diff(told.quantiles_NSQ, axis=-1) >= 0).all()
    assert Network(members).levels == tuple(members[0].config.head_options.quantiles)


def test_an_ensemble_predicts_the_same_from_its_files(frame, members, newest, tmp_path):
    Network(members).save(tmp_path)
    loaded = load_forecaster(tmp_path)
    assert isinstance(loaded, Network)
    np.testing.assert_array_equal(
        loaded.predict(frame, newest).value_NS, Network(members).predict(frame, newest).value_NS
    )


def test_a_baseline_is_loaded_by_the_same_call(frame, fold, tmp_path):
    Zero.fit(frame, fold.split).save(tmp_path)
    assert isinstance(load_forecaster(tmp_path), Zero)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BundleMismatch, match="holds no baseline"):
        load_forecaster(tmp_path)
    with pytest.raises(BundleMismatch, match="holds no ensemble"):
        Network.load(tmp_path)


def test_windows_of_another_horizon_or_symbols_are_refused(frame, members, newest):
    with pytest.raises(BundleMismatch, match="4 bars ahead from 16 bars; the windows have"):
        Network(members).predict(dataclasses.replace(frame, horizon=5), newest)
    other = dataclasses.replace(frame, symbols=("BTCUSDT", "ETHUSDT", "XRPUSDT"))
    with pytest.raises(BundleMismatch, match="the windows have BTCUSDT, ETHUSDT, XRPUSDT"):
        Network(members).predict(other, newest)


def test_members_that_predict_different_things_are_refused(make_bundle):
    with pytest.raises(InvalidConfig, match="an ensemble of direction, regression"):
        Network((make_bundle(), make_bundle(head="direction")))
    with pytest.raises(InvalidConfig, match="an ensemble of no model"):
        Network(())


def test_the_transformer_is_the_ensembles_first_member_and_trained_once(
    frame, fold, tiny_recipe, monkeypatch
):
    seeds, real = [], module.train

    def spied(frame, split, recipe):
        seeds.append(recipe.train.seed)
        return real(frame, split, recipe)

    monkeypatch.setattr(module, "train", spied)
    fits = contenders(tiny_recipe, ["transformer", "ensemble"], seeds=2)
    alone, together = (fit(frame, fold.split) for fit in fits.values())
    first = tiny_recipe.train.seed
    assert seeds == [first, first + 1]
    assert len(together.members) == 2
    assert together.members[0] is alone.members[0]


def test_every_contender_has_its_fit(tiny_recipe):
    assert list(contenders(tiny_recipe, CONTENDERS)) == [*BASELINES, "transformer", "ensemble"]


@pytest.mark.parametrize("names", [["oracle"], [], ["zero", "zero"]])
def test_unknown_missing_and_double_names_are_refused(names, tiny_recipe):
    with pytest.raises(InvalidConfig, match="expected some of zero, last_value"):
        contenders(tiny_recipe, names)


def test_an_ensemble_of_one_is_refused(tiny_recipe):
    with pytest.raises(InvalidConfig, match="seeds=1: expected an ensemble of at least 2"):
        contenders(tiny_recipe, ["ensemble"], seeds=1)


def test_a_dense_recipe_refuses_folds_whose_training_windows_reach_into_the_test(
    frame, tiny_recipe
):
    dense = tiny_recipe.with_model(
        supervision="dense", span="sliding", window=16, positions="rotary"
    )
    fit = contenders(dense, ["transformer"])["transformer"]
    loose, tight = (
        purged_folds(frame, PurgedConfig(3, reach=reach))[0] for reach in (0, frame.lookback - 1)
    )
    with pytest.raises(InvalidConfig, match=r"training windows teach labels of the test .*=15"):
        fit(frame, loose.split)
    assert fit(frame, tight.split).head == "regression"
