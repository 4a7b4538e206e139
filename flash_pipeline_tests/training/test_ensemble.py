"""An ensemble of seeds is one recipe: one training, one bundle, one prediction."""

import dataclasses

import numpy as np
import pytest
import torch

from flash_pipeline.errors import BundleMismatch, InvalidConfig
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.checkpoint import Checkpoint
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.trainer import Parent, train, warm_start_refusal
from flash_pipeline_tests.training.conftest import DENSE, tiny_recipe

CPU = torch.device("cpu")
SEED = tiny_recipe().train.seed


def same_weights(one, other):
    return all(weight.equal(other[name]) for name, weight in one.items())


@pytest.fixture(scope="module")
def ensemble(frame, split):
    return train(frame, split, tiny_recipe(seeds=2), device=CPU)


@pytest.fixture(scope="module")
def windows(frame):
    return frame.batch(np.arange(20))


def test_each_member_is_the_model_of_its_seed(ensemble, frame, split):
    for number, weights in enumerate(ensemble.bundle.member_weights):
        alone = train(frame, split, tiny_recipe(seed=SEED + number), device=CPU)
        assert same_weights(weights, alone.bundle.weights)


def test_its_epochs_are_those_of_its_members_one_after_another(ensemble, training):
    assert [epoch.number for epoch in ensemble.history] == [1, 2, 3, 4, 5, 6]
    assert ensemble.history[:3] == training.history
    assert ensemble.parameters == 2 * training.parameters


def alone(bundle, number):
    return dataclasses.replace(bundle, weights=bundle.member_weights[number], siblings=())


def test_it_predicts_the_mean_of_its_members(ensemble, windows):
    told_NS = Predictor(ensemble.bundle, CPU).predict(windows)
    each = [Predictor(alone(ensemble.bundle, n), CPU).predict(windows) for n in (0, 1)]
    np.testing.assert_allclose(told_NS, np.mean(each, axis=0), rtol=1e-6)
    assert not np.allclose(each[0], each[1])


def test_its_scale_is_that_of_the_mean(ensemble, frame, split):
    told_NS = Predictor(ensemble.bundle, CPU).predict(frame.batch(split.validation_N))
    expected = np.sqrt(np.mean(told_NS.astype(np.float64) ** 2))
    assert ensemble.bundle.prediction_scale == pytest.approx(expected, rel=1e-5)


def test_quantiles_are_averaged_level_by_level_and_stay_in_order(frame, split, windows):
    bundle = train(frame, split, tiny_recipe(seeds=2, head="quantile", epochs=1), device=CPU).bundle
    told = Predictor(bundle, CPU).predict_windows(windows)
    each = [Predictor(alone(bundle, n), CPU).predict_windows(windows) for n in (0, 1)]
    expected_NSQ = np.mean([one.quantiles_NSQ for one in each], axis=0)
    np.testing.assert_allclose(told.quantiles_NSQ, expected_NSQ, rtol=1e-6)
    assert (np.diff(told.quantiles_NSQ, axis=-1) >= 0).all()


def test_a_pass_over_a_series_gives_the_mean_too(frame, split):
    bundle = train(frame, split, tiny_recipe(seeds=2, epochs=1, **DENSE), device=CPU).bundle
    x_TI = frame.along_time(frame.x_BKSF)[:40].reshape(40, -1)
    told_TS = Predictor(bundle, CPU).predict_series(x_TI).value_NS
    each = [Predictor(alone(bundle, n), CPU).predict_series(x_TI).value_NS for n in (0, 1)]
    np.testing.assert_allclose(told_TS, np.mean(each, axis=0), rtol=1e-5, atol=1e-9)


def test_no_window_gives_no_prediction(ensemble, windows):
    assert Predictor(ensemble.bundle, CPU).predict(windows[:0]).shape == (0, 2)


def test_its_files_are_one_more_of_weights_for_each_member(ensemble, windows, tmp_path):
    ensemble.bundle.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"bundle.json", "model.safetensors", "model-2.safetensors"}
    again = Predictor(ModelBundle.load(tmp_path), CPU).predict(windows)
    assert again.tobytes() == Predictor(ensemble.bundle, CPU).predict(windows).tobytes()
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(BundleMismatch, match="holds no model bundle"):
        ModelBundle.load(tmp_path)


def test_a_warm_start_gives_each_member_its_own_weights(ensemble, frame, split):
    recipe = tiny_recipe(seeds=2, learning_rate=1e-12, weight_decay=0.0)
    warm = train(frame, split, recipe, parent=Parent("3", ensemble.bundle), device=CPU)
    for weights, before in zip(
        warm.bundle.member_weights, ensemble.bundle.member_weights, strict=True
    ):
        for name, weight in weights.items():
            torch.testing.assert_close(weight, before[name], rtol=0, atol=1e-9)
    assert [epoch.number for epoch in warm.history] == [1, 2, 3, 4]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_model_of_other_members_may_not_be_a_start(ensemble, frame, split, seeds):
    refusal = warm_start_refusal(ensemble.bundle, frame, split, tiny_recipe(seeds=seeds))
    assert refusal == f"it has 2 members: expected {seeds}"


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("number", "resumed"),
    [
        (2, "member 1 after epoch 1, step 0"),
        (5, "member 1 after epoch 3, step 0; member 2 after epoch 1, step 0"),
    ],
)
def test_a_killed_training_keeps_the_members_that_are_done(
    ensemble, frame, split, tmp_path, number, resumed
):
    told = []

    def checkpoint():
        return Checkpoint(tmp_path, "abc", "random weights", 0.0)

    def die(epoch):
        if epoch.number == number:
            raise Killed

    recipe = tiny_recipe(seeds=2)
    with pytest.raises(Killed):
        train(frame, split, recipe, device=CPU, on_epoch=die, checkpoint=checkpoint())
    again = train(frame, split, recipe, device=CPU, on_epoch=told.append, checkpoint=checkpoint())
    assert again.resumed == resumed
    assert again.history == ensemble.history == tuple(told)
    for weights, expected in zip(
        again.bundle.member_weights, ensemble.bundle.member_weights, strict=True
    ):
        assert same_weights(weights, expected)
    checkpoint().remove()
    assert not list(tmp_path.iterdir())


def test_checkpoints_of_members_are_no_others(tmp_path):
    for name in ("abc.safetensors", "abc.1.safetensors", "abcd.safetensors", "old.safetensors"):
        (tmp_path / name).touch()
    Checkpoint(tmp_path, "abc", "random weights", 0.0).remove_others()
    assert {path.name for path in tmp_path.iterdir()} == {"abc.safetensors", "abc.1.safetensors"}


@pytest.mark.parametrize("seeds", [0, -1, 1.5, True])
def test_a_number_of_members_below_one_is_refused(seeds):
    with pytest.raises(InvalidConfig, match=r"seeds is .*: expected an integer of at least 1"):
        tiny_recipe(seeds=seeds)
