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
def ensemble(make_bundle):
    first, *others = (make_bundle(seed=seed) for seed in range(3))
    return dataclasses.replace(first, siblings=tuple(other.weights for other in others))


@pytest.fixture
def newest(frame):
    return np.arange(len(frame.anchor_N) - 20, len(frame.anchor_N))


def test_a_network_predicts_as_its_model(frame, ensemble, newest):
    told = Network(ensemble).predict(frame, newest)
    expected = predict_windows(frame, ensemble, newest)
    np.testing.assert_array_equal(told.value_NS, expected.value_NS)


def test_a_network_tells_its_levels_and_scale(make_bundle):
    bundle = make_bundle(head="quantile")
    assert Network(bundle).levels == tuple(bundle.config.head_options.quantiles)
    assert Network(make_bundle()).levels == ()
    assert Network(bundle).prediction_scale == bundle.prediction_scale


def test_a_network_predicts_the_same_from_its_files(frame, ensemble, newest, tmp_path):
    Network(ensemble).save(tmp_path)
    loaded = load_forecaster(tmp_path)
    assert isinstance(loaded, Network)
    np.testing.assert_array_equal(
        loaded.predict(frame, newest).value_NS, Network(ensemble).predict(frame, newest).value_NS
    )


def test_a_baseline_is_loaded_by_the_same_call(frame, fold, tmp_path):
    Zero.fit(frame, fold.split).save(tmp_path)
    assert isinstance(load_forecaster(tmp_path), Zero)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(BundleMismatch, match="holds no baseline"):
        load_forecaster(tmp_path)


def test_windows_of_another_horizon_or_symbols_are_refused(frame, ensemble, newest):
    with pytest.raises(BundleMismatch, match="4 bars ahead from 16 bars; the windows have"):
        Network(ensemble).predict(dataclasses.replace(frame, horizon=5), newest)
    other = dataclasses.replace(frame, symbols=("BTCUSDT", "ETHUSDT", "XRPUSDT"))
    with pytest.raises(BundleMismatch, match="the windows have BTCUSDT, ETHUSDT, XRPUSDT"):
        Network(ensemble).predict(other, newest)


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
    assert len(together.bundle.member_weights) == 2
    assert together.bundle.weights is alone.bundle.weights


def test_an_ensemble_is_what_a_training_of_several_seeds_gives(frame, fold, tiny_recipe):
    (fit,) = contenders(tiny_recipe, ["ensemble"], seeds=2).values()
    joined = fit(frame, fold.split).bundle
    trained = module.train(frame, fold.split, tiny_recipe.with_training(seeds=2)).bundle
    for one, other in zip(joined.member_weights, trained.member_weights, strict=True):
        assert all(weight.equal(other[name]) for name, weight in one.items())
    assert joined.prediction_scale == pytest.approx(trained.prediction_scale, rel=1e-5)


def test_a_recipe_of_several_seeds_is_the_transformer_and_no_ensemble_beside_it(
    frame, fold, tiny_recipe
):
    several = tiny_recipe.with_training(seeds=2)
    (fit,) = contenders(several, ["transformer"]).values()
    assert len(fit(frame, fold.split).bundle.member_weights) == 2
    with pytest.raises(InvalidConfig, match="'tiny' is an ensemble of 2 itself"):
        contenders(several, ["transformer", "ensemble"], seeds=2)


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
