"""Shape letters: N windows, S symbols."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.figures import loss_curve
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.state import Epoch
from flash_pipeline.training.targets import anchor_volatility
from flash_pipeline.training.trainer import Parent, fit_scalers, train, warm_start_refusal
from flash_pipeline.windows import Panel, SplitConfig, chronological_split

CPU = torch.device("cpu")


def same_weights(one, other):
    return all(w.equal(other.weights[name]) for name, w in one.weights.items())


def test_equal_trainings_on_a_cpu_give_equal_bits(training, frame, split, make_recipe):
    again = train(frame, split, make_recipe(), device=CPU)
    assert again.history == training.history
    assert same_weights(again.bundle, training.bundle)
    assert again.bundle.prediction_scale == training.bundle.prediction_scale


def test_what_the_caller_drew_before_does_not_matter(training, frame, split, make_recipe):
    torch.manual_seed(123)
    torch.rand(17)
    assert same_weights(train(frame, split, make_recipe(), device=CPU).bundle, training.bundle)


def test_another_seed_gives_another_model(training, frame, split, make_recipe):
    other = train(frame, split, make_recipe(seed=59), device=CPU)
    assert not same_weights(other.bundle, training.bundle)


def test_the_callers_random_state_is_left_alone(frame, split, make_recipe):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(frame, split, make_recipe(epochs=1), device=CPU)
    assert torch.get_rng_state().equal(before)


@pytest.fixture(scope="module")
def learned(make_panel, cut, make_recipe):
    """Return a longer training on the planted signal, with its frame and split."""
    frame = cut(make_panel(600))
    split = chronological_split(frame, SplitConfig())
    recipe = make_recipe(epochs=8, dropout=0.0)
    return train(frame, split, recipe, device=CPU), frame, split


def test_the_loss_falls_on_a_planted_signal(learned):
    history = learned[0].history
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    assert learned[0].best.validation_loss < 0.5


def test_a_planted_signal_is_predicted_out_of_sample_better_than_by_zero(learned):
    training, frame, split = learned
    predictions_NS = Predictor(training.bundle, CPU).predict(frame.batch(split.test_N))
    labels_NS = frame.label_NS[split.test_N]
    error, error_of_zero = ((labels_NS - predictions_NS) ** 2).mean(), (labels_NS**2).mean()
    assert error < 0.5 * error_of_zero


def test_a_market_without_signal_is_not_predicted(make_panel, cut, make_recipe):
    frame = cut(make_panel(signal=0.0))
    split = chronological_split(frame, SplitConfig())
    training = train(frame, split, make_recipe(epochs=4), device=CPU)
    sigma_NS = anchor_volatility(frame)
    targets_NS = training.bundle.targets.transform(frame.label_NS, sigma_NS)[split.validation_N]
    assert training.best.validation_loss > 0.9 * (targets_NS**2).mean()


def test_the_scale_of_the_predictions_is_that_of_the_validation_range(learned):
    training, frame, split = learned
    predictions_NS = Predictor(training.bundle, CPU).predict(frame.batch(split.validation_N))
    assert training.bundle.prediction_scale == pytest.approx(np.std(predictions_NS), rel=1e-4)


def test_the_scale_of_predictions_that_are_not_centred_is_taken_about_zero(
    make_panel, cut, make_recipe
):
    panel = make_panel(signal=0.0)
    rise_T1 = np.exp(0.02 * np.arange(len(panel.start_time_T)))[:, None]
    frame = cut(dataclasses.replace(panel, close_TS=panel.close_TS * rise_T1))
    split = chronological_split(frame, SplitConfig())
    bundle = train(frame, split, make_recipe(), device=CPU).bundle
    predictions_NS = Predictor(bundle, CPU).predict(frame.batch(split.validation_N))
    root_mean_square = np.sqrt((predictions_NS.astype(np.float64) ** 2).mean())
    assert bundle.prediction_scale == pytest.approx(root_mean_square, rel=1e-4)
    assert root_mean_square > 2 * predictions_NS.std()


def test_the_scalers_are_fitted_on_the_training_range_alone(frame, split, make_panel, make_recipe):
    features, targets = fit_scalers(frame, split, make_recipe())
    seen_T = make_panel().x_TSF[: split.train_N[-1] + 8].astype(np.float64)
    np.testing.assert_allclose(features.centre_SF, seen_T.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(features.scale_SF, seen_T.std(axis=0), rtol=1e-5)
    labels_NS = frame.label_NS[split.train_N].astype(np.float64)
    np.testing.assert_allclose(targets.std_S, np.sqrt((labels_NS**2).mean(axis=0)), rtol=1e-5)


def poisoned(panel: Panel, since: int) -> Panel:
    """Return the panel with every value changed in the bars that close after `since`."""
    later_T = panel.start_time_T >= since
    rng = np.random.default_rng(666)
    x_TSF, close_TS = panel.x_TSF.copy(), panel.close_TS.copy()
    x_TSF[later_T] = rng.normal(50, 20, x_TSF[later_T].shape)
    close_TS[later_T] = rng.uniform(1, 1000, close_TS[later_T].shape)
    return dataclasses.replace(panel, x_TSF=x_TSF, close_TS=close_TS)


def test_nothing_after_the_training_range_touches_scalers_weights_or_earlier_predictions(
    make_panel, cut, make_recipe
):
    # One epoch: the validation range has no checkpoint to choose from.
    recipe, panel = make_recipe(epochs=1), make_panel()
    clean = cut(panel)
    split = chronological_split(clean, SplitConfig())
    until = int(clean.label_end_N[split.train_N[-1]])
    spoiled = cut(poisoned(panel, until))
    assert (clean.x_BKSF != spoiled.x_BKSF).any()

    one, other = (train(f, split, recipe, device=CPU).bundle for f in (clean, spoiled))
    assert one.features.to_dict() == other.features.to_dict()
    assert one.targets.to_dict() == other.targets.to_dict()
    assert same_weights(one, other)
    earlier_N = np.flatnonzero(clean.made_at_N <= until)
    predictions = [
        Predictor(bundle, CPU).predict(f.batch(earlier_N)).tobytes()
        for bundle, f in ((one, clean), (other, spoiled))
    ]
    assert predictions[0] == predictions[1]


def test_nothing_after_the_validation_range_touches_the_choice_of_checkpoint(
    make_panel, cut, make_recipe
):
    recipe, panel = make_recipe(), make_panel()
    clean = cut(panel)
    split = chronological_split(clean, SplitConfig())
    spoiled = cut(poisoned(panel, int(clean.label_end_N[split.validation_N[-1]])))
    one, other = (train(f, split, recipe, device=CPU) for f in (clean, spoiled))
    assert one.history == other.history
    assert same_weights(one.bundle, other.bundle)
    assert one.bundle.prediction_scale == other.bundle.prediction_scale


def test_the_provenance_says_what_was_seen(training, frame, split, make_recipe):
    provenance = training.bundle.provenance
    assert provenance.recipe == "tiny"
    assert provenance.snapshot == frame.snapshot
    assert provenance.fingerprint == make_recipe().fingerprint(frame.snapshot)
    assert provenance.synthetic
    assert provenance.train_from == frame.anchor_N[split.train_N[0]]
    assert provenance.train_until == frame.label_end_N[split.train_N[-1]]
    assert provenance.seen_until == frame.label_end_N[split.validation_N[-1]]
    assert provenance.seen_until <= frame.made_at_N[split.test_N[0]]
    assert provenance.parent is None


def test_the_attention_and_the_device_are_told(training, bundle):
    assert "sdpa" in training.attention
    assert training.form == "eager: the device is cpu"
    assert training.device == "cpu"
    assert training.parameters == bundle.build().n_parameters


def test_the_attention_told_is_that_of_the_training_not_of_its_evaluation(
    frame, split, make_recipe, monkeypatch
):
    chosen = FlashAttentionTrader.choose_attention

    def choose(self, *arguments):
        return dataclasses.replace(chosen(self, *arguments), reason=f"training is {self.training}")

    monkeypatch.setattr(FlashAttentionTrader, "choose_attention", choose)
    told = train(frame, split, make_recipe(epochs=1), device=CPU).attention
    assert told.endswith("training is True")


def test_the_best_epoch_is_the_one_of_the_lowest_validation_loss(training):
    history = tuple(Epoch(n, 1.0, loss, 0.1, 1.0) for n, loss in ((1, 3.0), (2, 1.0), (3, 2.0)))
    assert dataclasses.replace(training, history=history).best.number == 2


@pytest.mark.parametrize("head", ["direction", "allocation"])
def test_the_other_heads_are_trained_as_well(frame, split, make_recipe, head):
    training = train(frame, split, make_recipe(head=head, epochs=4, dropout=0.0), device=CPU)
    assert training.best.validation_loss < training.history[0].train_loss
    predictions_NS = Predictor(training.bundle, CPU).predict(frame.batch(split.test_N))
    centre = 0.5 if head == "direction" else 0.0
    right_NS = (predictions_NS > centre) == (frame.label_NS[split.test_N] > 0)
    assert right_NS.mean() > 0.6


def test_a_warm_start_begins_with_the_parents_weights(bundle, frame, split, make_recipe):
    recipe = make_recipe(learning_rate=1e-12, weight_decay=0.0)
    warm = train(frame, split, recipe, parent=Parent("3", bundle), device=CPU)
    for name, weight in warm.bundle.weights.items():
        torch.testing.assert_close(weight, bundle.weights[name], rtol=0, atol=1e-9)


def test_a_warm_start_takes_the_warm_epochs_and_names_its_parent(bundle, frame, split, make_recipe):
    told = []
    parent = Parent("3", bundle)
    warm = train(frame, split, make_recipe(), parent=parent, device=CPU, on_epoch=told.append)
    assert len(warm.history) == make_recipe().train.warm_epochs == len(told) == 2
    assert warm.bundle.provenance.parent == "3"


def test_a_warm_start_leaves_the_parent_as_it_was(bundle, frame, split, make_recipe):
    before = {name: weight.clone() for name, weight in bundle.weights.items()}
    train(frame, split, make_recipe(), parent=Parent("3", bundle), device=CPU)
    assert all(weight.equal(before[name]) for name, weight in bundle.weights.items())


def seen(bundle, **changes):
    return dataclasses.replace(bundle, provenance=dataclasses.replace(bundle.provenance, **changes))


@pytest.mark.parametrize("later_ms", [0, 1, 3_600_000])
def test_a_warm_start_has_seen_what_its_parent_has_seen(
    bundle, frame, split, make_recipe, later_ms
):
    own = bundle.provenance
    train_until, seen_until = own.train_until + later_ms, own.seen_until + later_ms
    parent = Parent("3", seen(bundle, train_until=train_until, seen_until=seen_until))
    warm = train(frame, split, make_recipe(warm_epochs=1), parent=parent, device=CPU)
    assert warm.bundle.provenance.train_until == train_until
    assert warm.bundle.provenance.seen_until == seen_until


def test_a_parent_that_has_seen_less_takes_nothing_off(bundle, frame, split, make_recipe):
    own = bundle.provenance
    parent = Parent("3", seen(bundle, train_until=own.train_from, seen_until=own.train_from))
    warm = train(frame, split, make_recipe(warm_epochs=1), parent=parent, device=CPU)
    assert warm.bundle.provenance.train_until == own.train_until
    assert warm.bundle.provenance.seen_until == own.seen_until


def test_a_model_that_saw_neither_validation_nor_test_may_be_a_start(
    bundle, frame, split, make_recipe
):
    assert warm_start_refusal(bundle, frame, split, make_recipe()) is None


def test_a_model_that_saw_just_up_to_the_ranges_may_be_a_start(bundle, frame, split, make_recipe):
    edge = seen(
        bundle,
        train_until=int(frame.made_at_N[split.validation_N[0]]),
        seen_until=int(frame.made_at_N[split.test_N[0]]),
    )
    assert warm_start_refusal(edge, frame, split, make_recipe()) is None


@pytest.mark.parametrize(
    ("field", "part", "message"),
    [
        ("train_until", "validation_N", "into the validation range from 2024-01-"),
        ("seen_until", "test_N", "into the test range from 2024-01-"),
    ],
)
def test_a_model_that_saw_a_range_that_judges_it_may_not_be_a_start(
    bundle, frame, split, make_recipe, field, part, message
):
    first = int(frame.made_at_N[getattr(split, part)[0]])
    refusal = warm_start_refusal(seen(bundle, **{field: first + 1}), frame, split, make_recipe())
    assert message in refusal


def test_a_model_of_simulated_candles_may_not_start_one_of_real_ones(
    bundle, make_panel, cut, split, make_recipe
):
    real = cut(make_panel(), synthetic=False)
    assert "another kind" in warm_start_refusal(bundle, real, split, make_recipe())


def test_a_model_of_another_architecture_may_not_be_a_start(bundle, frame, split, make_recipe):
    recipe = make_recipe(d_ff=32)
    assert "another architecture" in warm_start_refusal(bundle, frame, split, recipe)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_scaling": "robust"}, r"('standard', 'rms'): expected ('robust', 'rms')"),
        ({"target_scaling": "volatility"}, r"expected ('standard', 'volatility')"),
    ],
)
def test_a_model_of_other_scales_may_not_be_a_start(
    bundle, frame, split, make_recipe, changes, message
):
    assert message in warm_start_refusal(bundle, frame, split, make_recipe(**changes))


def test_an_allocation_head_may_go_on_whatever_the_scaling_of_targets(frame, split, make_recipe):
    recipe = make_recipe(head="allocation", epochs=1)
    bundle = train(frame, split, recipe, device=CPU).bundle
    other = recipe.with_training(target_scaling="volatility")
    assert warm_start_refusal(bundle, frame, split, other) is None


def test_a_model_of_another_horizon_may_not_be_a_start(bundle, make_panel, cut, split, make_recipe):
    other = cut(make_panel(), horizon=2)
    assert "another horizon" in warm_start_refusal(bundle, other, split, make_recipe())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_with_a_weight_that_is_not_finite_may_not_be_a_start(
    bundle, frame, split, make_recipe, value
):
    weights = {name: weight.clone() for name, weight in bundle.weights.items()}
    weights["positions"][0, 0] = value
    broken = dataclasses.replace(bundle, weights=weights)
    assert "not finite" in warm_start_refusal(broken, frame, split, make_recipe())


def test_the_loss_curve_is_the_same_picture_for_the_same_history(training):
    one, other = (loss_curve(training.history, title="Loss") for _ in range(2))
    assert one == other
    assert one.startswith(b"\x89PNG")
    width, height = (int.from_bytes(one[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1000, 562)
