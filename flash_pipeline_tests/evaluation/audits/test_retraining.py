"""Shape letters: N windows."""

import dataclasses

import numpy as np
import pytest

from flash_pipeline.evaluation.audits import Original, audit_retraining
from flash_pipeline.training.trainer import Parent, train
from flash_pipeline.windows import chronological_split
from flash_pipeline_tests.evaluation.audits.conftest import SLIDING, hour


@pytest.fixture
def greedy(frame, make_recipe):
    """A model that was trained on the test range as well, and does not say so."""
    recipe = make_recipe()
    split = chronological_split(frame, recipe.split)
    honest = train(frame, split, recipe).bundle
    everything_N = np.concatenate([split.train_N, split.test_N])
    leaking = dataclasses.replace(split, train_N=everything_N)
    return dataclasses.replace(
        train(frame, leaking, recipe).bundle, provenance=honest.provenance, features=honest.features
    )


@pytest.mark.parametrize("changes", [{}, SLIDING, {"head": "direction"}, {"seeds": 2}])
def test_an_honest_model_is_the_same_again(frame, make_bundle, make_recipe, changes):
    original = Original(make_recipe(**changes), "cpu", None)
    found = audit_retraining(frame, make_bundle(**changes), original)
    assert found.passed, found.words
    assert found.figures["difference"] < 1e-5


def test_a_model_that_was_trained_past_its_claim_is_caught(frame, greedy, make_recipe):
    found = audit_retraining(frame, greedy, Original(make_recipe(), "cpu", None))
    assert found.failed
    assert "it is another: the predictions after it differ by" in found.words


def test_on_windows_that_have_changed_since_it_cannot_be_told_from_the_data(
    frame, candles, greedy, make_bundle, make_recipe
):
    shorter = candles.between(hour(0), hour(620)).frame(16, 4, synthetic=True)
    original = Original(make_recipe(), "cpu", None)
    assert audit_retraining(shorter, make_bundle(), original).passed
    found = audit_retraining(shorter, greedy, original)
    assert found.outcome == "not checked"
    assert "it is another" in found.words
    assert found.words.endswith("the windows have changed since, which may be why")


def test_a_warm_start_is_repeated_from_its_parent(frame, make_bundle, make_recipe):
    recipe = make_recipe()
    parent = Parent("1", make_bundle())
    split = chronological_split(frame, recipe.split)
    warm = train(frame, split, recipe, parent=parent).bundle
    assert audit_retraining(frame, warm, Original(recipe, "cpu", parent)).passed
    gone = audit_retraining(frame, warm, Original(recipe, "cpu", None))
    assert gone.words == ("not checked: version 1, which it started from, cannot be read any more")


@pytest.mark.parametrize(
    ("changes", "device", "words"),
    [
        ({}, "NVIDIA H200", "only a processor repeats a training exactly"),
        ({"epochs": 2}, "cpu", "by another version of the code, or by another recipe"),
    ],
)
def test_a_training_that_cannot_be_repeated_is_not_checked(
    frame, make_bundle, make_recipe, changes, device, words
):
    found = audit_retraining(frame, make_bundle(), Original(make_recipe(**changes), device, None))
    assert found.outcome == "not checked"
    assert words in found.words


def test_a_training_that_takes_too_long_is_not_repeated(frame, make_bundle, make_recipe):
    original = Original(make_recipe(), "cpu", None)
    assert "operations" in audit_retraining(frame, make_bundle(), original, most_work=1e6).words
