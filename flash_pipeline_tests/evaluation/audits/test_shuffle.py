"""Shape letters: N windows."""

import dataclasses

import numpy as np
import pytest

from flash_pipeline.evaluation import trading
from flash_pipeline.evaluation.audits import audit_shuffle, shuffle, small_recipe
from flash_pipeline.evaluation.audits.shuffle import _shuffled
from flash_pipeline.training.recipes import full_recipe
from flash_pipeline.windows import chronological_split
from flash_pipeline_tests.evaluation.audits.conftest import SLIDING


@pytest.mark.parametrize("changes", [{}, SLIDING, {"head": "direction"}])
def test_an_honest_training_learns_nothing_from_shuffled_labels(frame, make_recipe, changes):
    recipe = small_recipe(make_recipe(**changes))
    found = audit_shuffle(frame, recipe, np.random.default_rng(0))
    assert found.passed, found.words
    assert found.figures["control"] > found.figures["bound"]
    assert abs(found.figures["rank_ic"]) < found.figures["bound"]
    tested = len(chronological_split(frame, make_recipe().split).test_N)
    assert found.figures["bound"] == pytest.approx(3 / np.sqrt(tested - 1))


def test_shuffled_labels_are_the_labels_in_another_order_and_alike_in_every_block(frame):
    shuffled = _shuffled(frame, np.random.default_rng(0))
    was_NS, is_NS = frame.label_NS, shuffled.label_NS
    known_N = frame.known_N
    np.testing.assert_array_equal(known_N, shuffled.known_N)
    assert (was_NS[known_N] != is_NS[known_N]).mean() > 0.95
    rows = {tuple(row) for row in frame.along_time(frame.y_BKS).tolist()}
    assert {tuple(row) for row in is_NS[known_N].tolist()} <= rows, "symbols keep together"
    # A bar of two blocks has one label.
    overlap = frame.lookback - 1
    np.testing.assert_array_equal(shuffled.y_BKS[:-1, -overlap:], shuffled.y_BKS[1:, :overlap])


def test_a_model_that_was_trained_on_the_test_range_is_caught(frame, make_recipe, monkeypatch):
    def leaking(frame, config):
        split = chronological_split(frame, config)
        return dataclasses.replace(split, train_N=split.test_N)

    monkeypatch.setattr(shuffle, "chronological_split", leaking)
    found = audit_shuffle(frame, small_recipe(make_recipe()), np.random.default_rng(0))
    assert found.failed
    assert found.figures["rank_ic"] > found.figures["bound"]


def test_the_test_range_among_the_training_windows_is_caught(frame, make_recipe, monkeypatch):
    def leaking(frame, config):
        split = chronological_split(frame, config)
        return dataclasses.replace(split, train_N=np.union1d(split.train_N, split.test_N))

    monkeypatch.setattr(shuffle, "chronological_split", leaking)
    assert audit_shuffle(frame, small_recipe(make_recipe()), np.random.default_rng(0)).failed


def test_an_audit_that_could_not_see_a_leak_is_not_checked(frame, make_recipe, monkeypatch):
    monkeypatch.setattr(shuffle, "_PASSES", 1)
    slow = make_recipe(learning_rate=1e-5)
    found = audit_shuffle(frame, slow, np.random.default_rng(0))
    assert found.outcome == "not checked"
    assert found.words.endswith("the audit would not see it")
    assert found.figures["control"] < found.figures["bound"]


def test_predictions_that_hold_the_label_are_caught(frame, make_recipe, monkeypatch):
    honest = trading.predict_windows

    def peeking(frame, bundle, index_N):
        told = honest(frame, bundle, index_N)
        return dataclasses.replace(told, value_NS=told.value_NS + frame.label_NS[index_N])

    monkeypatch.setattr(trading, "predict_windows", peeking)
    found = audit_shuffle(frame, make_recipe(), np.random.default_rng(0))
    assert not found.passed
    assert "an honest one lies within" in found.words


def test_a_model_that_predicts_one_value_cannot_tell(frame, make_recipe, monkeypatch):
    honest = trading.predict_windows

    def constant(*arguments):
        told = honest(*arguments)
        return dataclasses.replace(told, value_NS=np.zeros_like(told.value_NS))

    monkeypatch.setattr(trading, "predict_windows", constant)
    found = audit_shuffle(frame, make_recipe(), np.random.default_rng(0))
    assert found.outcome == "not checked"


def test_the_small_recipe_is_of_the_same_kind(frame):
    small = small_recipe(full_recipe())
    assert (small.data.lookback, small.model.n_layers, small.model.d_model) == (16, 1, 32)
    assert (small.model.span, small.model.supervision) == ("sliding", "dense")
    assert small.train.target_scaling == "volatility"
