"""Shape letters: T hours, A assets, N decisions."""

import dataclasses

import numpy as np
import pytest
import torch

from flash_pipeline.errors import InvalidConfig, InvalidInput, NotEnoughHistory, TrainingDiverged
from flash_pipeline.portfolio import WalkConfig, walk_forward
from flash_pipeline.training.portfolio_fit import (
    MarketTensors,
    asset_attention,
    decide,
    fit_portfolio,
    validation_loss,
)
from flash_pipeline.training.portfolio_recipes import (
    PORTFOLIO_RECIPES,
    VARIANTS,
    PortfolioTraining,
    demo_portfolio,
)
from flash_pipeline.training.portfolio_session import Decisions, decide_with, train_portfolio
from flash_pipeline_tests.portfolio.conftest import UNIVERSE, panel_of

CPU = torch.device("cpu")
HORIZON = 6


def recipe(**train):
    demo = demo_portfolio()
    model = dataclasses.replace(
        demo.model, lookback=24, d_model=8, n_heads=1, n_layers=2, d_ff=16, asset_cap=0.4
    )
    training = {"steps": 4, "batch_size": 4, "validate_every": 2, "least_hours": 40, **train}
    return dataclasses.replace(
        demo,
        model=model,
        universe=UNIVERSE,
        horizon=HORIZON,
        walk=WalkConfig(folds=2),
        train=PortfolioTraining(**{"learning_rate": 1e-2, **training}),
    )


@pytest.fixture(scope="module")
def panel():
    return panel_of(hours=500, listed={"BBUSDT": 150}, gone={"CCUSDT": 380})


def fitted(panel, variant="joint", number=0, **train):
    made = recipe(**train)
    fold = walk_forward(panel, made.model.lookback, HORIZON, made.walk)[number]
    tensors = MarketTensors(panel, fold.train, HORIZON, made.train.least_hours, CPU)
    fit = fit_portfolio(tensors, fold, made.config(len(panel.symbols), variant), made.train, 1)
    return fit, tensors, fold


def changed_from(panel, row):
    """Return the panel with another future from a row on, prices and inputs alike."""
    random = np.random.default_rng(9)
    parts = {}
    for each in dataclasses.fields(panel):
        if each.name.endswith(("_TA", "_TAF")) and each.name != "member_TA":
            values = getattr(panel, each.name).copy()
            values[row:] *= random.uniform(0.5, 2.0, values[row:].shape).astype(values.dtype)
            parts[each.name] = values
    return dataclasses.replace(panel, **parts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_another_future_leaves_weights_and_decisions_as_they_were(panel, variant):
    fit, tensors, fold = fitted(panel, variant)
    other = changed_from(panel, fold.test.start + 20)
    again, after, _ = fitted(other, variant)
    for name, weight in fit.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    rows = [fold.test.start, fold.test.start + 19]
    np.testing.assert_array_equal(
        decide(fit.model, tensors, rows), decide(again.model, after, rows)
    )
    later = [fold.test.start + 20]
    assert (decide(fit.model, tensors, later) != decide(again.model, after, later)).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_validation_range_chooses_but_does_not_teach(panel, variant):
    fit, _, fold = fitted(panel, variant, steps=2)
    other = changed_from(panel, fold.validation.start + 1)
    again, _, _ = fitted(other, variant, steps=2)
    assert fit.best.step == again.best.step == 2
    for name, weight in fit.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    assert fit.best.validation_loss != again.best.validation_loss


def test_the_scale_is_that_of_the_training_hours(panel):
    fit, _, fold = fitted(panel)
    rows = slice(fold.train.start, fold.train.stop)
    inputs = panel.x_TAF[rows, 0][panel.present_TA[rows, 0]]
    np.testing.assert_allclose(fit.model.centre_GF[0], inputs.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fit.model.spread_GF[0], inputs.std(0), rtol=1e-4)


def test_labels_are_what_a_decision_earns_an_hour(panel):
    _, tensors, fold = fitted(panel)
    t = fold.train.start + 30
    expected = (panel.open_TA[t + 1 + HORIZON, 0] / panel.open_TA[t + 1, 0] - 1) / HORIZON
    assert tensors.y_TA[t, 0].item() == pytest.approx(expected, rel=1e-5)
    gone = panel.symbols.index("CCUSDT")
    assert tensors.y_TA[380 - HORIZON :, gone].isnan().all()


def test_both_variants_learn_a_planted_signal():
    panel = panel_of(hours=700, seed=3)
    inputs = panel.x_TAF.copy()
    y = panel.forward_returns(HORIZON)
    inputs[..., 1] = np.nan_to_num(y) * 100 + 0.1 * np.random.default_rng(0).standard_normal(
        y.shape
    )
    planted = dataclasses.replace(panel, x_TAF=np.where(np.isnan(panel.x_TAF), np.nan, inputs))
    for variant in VARIANTS:
        fit, tensors, fold = fitted(planted, variant, steps=40, validate_every=20)
        rows = list(fold.test)[::HORIZON]
        weights = decide(fit.model, tensors, rows)
        earned = (weights * np.nan_to_num(y[rows])).sum(1)
        assert earned.mean() > 3 * earned.std() / np.sqrt(len(rows)), variant


def test_another_objective_gives_another_model(panel):
    made = recipe()
    head = dataclasses.replace(made.model.head_options, objective="mean_variance")
    config = dataclasses.replace(made.config(len(panel.symbols), "axial"), head_options=head)
    fit, tensors, fold = fitted(panel, "axial")
    other = fit_portfolio(tensors, fold, config, made.train, 1)
    rows = [fold.test.start]
    assert (decide(fit.model, tensors, rows) != decide(other.model, tensors, rows)).any()


def test_the_best_look_is_kept(panel):
    fit, tensors, fold = fitted(panel, steps=6, validate_every=1, learning_rate=0.3)
    assert len(fit.history) == 6
    kept = validation_loss(fit.model, tensors, fold.validation)
    assert kept == pytest.approx(min(look.validation_loss for look in fit.history))


def test_an_asset_with_too_few_hours_is_absent_for_the_model(panel):
    fold = walk_forward(panel, 24, HORIZON, WalkConfig())[0]
    listed = panel.symbols.index("BBUSDT")
    hours = int(panel.present_TA[fold.train.start : fold.train.stop, listed].sum())
    tensors = MarketTensors(panel, fold.train, HORIZON, hours + 1, CPU)
    assert not tensors.seen_A[listed]
    assert not tensors.present_TA[:, listed].any()
    with pytest.raises(NotEnoughHistory, match="no asset has 1000 hours"):
        MarketTensors(panel, fold.train, HORIZON, 1000, CPU)


def test_a_window_that_begins_before_the_panel_is_refused(panel):
    fit, tensors, _ = fitted(panel)
    with pytest.raises(InvalidInput, match="expected 23 to 499"):
        decide(fit.model, tensors, [22])


def test_a_training_without_numbers_says_so(panel):
    with pytest.raises(TrainingDiverged, match="at step 2"):
        fitted(panel, learning_rate=1e30)


def test_attention_across_assets_is_a_share(panel):
    for variant in VARIANTS:
        fit, tensors, fold = fitted(panel, variant)
        seen = asset_attention(fit.model, tensors, [fold.test.start, fold.test.start + 5])
        there = np.isfinite(seen).all(1)
        np.testing.assert_allclose(seen[there].sum(1), 1, rtol=1e-5)
        assert (seen[there] >= 0).all()


@pytest.fixture(scope="module")
def session(panel):
    return train_portfolio(panel, recipe(seeds=2))


def test_a_session_trains_both_variants_of_every_seed_and_chooses_by_validation(panel, session):
    decisions = session.decisions
    assert set(decisions.weights) == {"joint/58", "joint/59", "axial/58", "axial/59"}
    assert len(decisions.facts["fits"]) == 8
    for chosen in decisions.facts["chosen"]:
        losses = {
            fit["training"]: min(look["validation_loss"] for look in fit["history"])
            for fit in decisions.facts["fits"]
            if fit["fold"] == chosen["fold"]
        }
        assert chosen["training"] == min(losses, key=losses.get)
    step = np.diff(decisions.start_time_N)
    assert (step == HORIZON * 3_600_000).all()
    assert set(decisions.fold_N.tolist()) == {1, 2}


def test_a_session_is_repeatable(panel, session):
    again = train_portfolio(panel, recipe(seeds=2))
    np.testing.assert_array_equal(again.decisions.chosen_NA, session.decisions.chosen_NA)


def test_decisions_come_back_from_their_folder(session, tmp_path):
    session.decisions.save(tmp_path / "portfolio")
    back = Decisions.load(tmp_path / "portfolio")
    assert back.symbols == session.decisions.symbols
    np.testing.assert_array_equal(back.chosen_NA, session.decisions.chosen_NA)
    np.testing.assert_array_equal(back.best_of("axial"), session.decisions.best_of("axial"))
    np.testing.assert_array_equal(back.attention_AA, session.decisions.attention_AA)
    with pytest.raises(NotEnoughHistory, match="portfolio_model"):
        Decisions.load(tmp_path / "none")


def test_the_bundle_decides_as_the_session_did(panel, session):
    decisions = session.decisions
    last = np.flatnonzero(decisions.fold_N == 2)
    rows = np.searchsorted(panel.start_time_T, decisions.start_time_N[last]).tolist()
    np.testing.assert_allclose(
        decide_with(session.bundle, panel, rows), decisions.chosen_NA[last], atol=1e-6
    )


def test_a_bundle_serves_a_panel_that_lacks_an_asset_or_has_another(panel, session):
    row = [len(panel.start_time_T) - 1]
    other = panel.columns([*panel.symbols[:3], "NEWUSDT"])
    weights = decide_with(session.bundle, other, row)
    assert weights.shape == (1, 4)
    assert weights[0, 3] == 0
    assert np.isfinite(weights).all()
    with pytest.raises(NotEnoughHistory, match="expected the model's window of 24"):
        decide_with(session.bundle, panel, [10])
    strangers = dataclasses.replace(panel, symbols=tuple(f"X{s}" for s in panel.symbols))
    with pytest.raises(NotEnoughHistory, match="was trained on"):
        decide_with(session.bundle, strangers, row)


def test_the_served_example_has_no_number_where_a_token_is_absent(panel, session):
    absent = ~panel.present_TA[-24:]
    assert session.example.shape == (1, 24, len(panel.symbols), 4)
    assert np.isnan(session.example[0][absent]).all()


def test_recipes_are_complete_and_named():
    for name, make in PORTFOLIO_RECIPES.items():
        made = make()
        assert made.name in ("demo", "full"), name
        assert made.model.supervision == "dense"
        assert made.fingerprint("a") != made.fingerprint("b")
    full = PORTFOLIO_RECIPES["full"]()
    sizes = (full.universe.n_assets, full.model.lookback, full.model.d_model, full.model.n_layers)
    assert sizes == (100, 2048, 128, 4)
    assert full.model.head_size == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, "steps is 0"), ({"learning_rate": 0}, "learning_rate is 0"),
     ({"seed": -1}, "seed -1")],
)  # fmt: skip
def test_trainings_out_of_bounds_are_refused(options, message):
    with pytest.raises(InvalidConfig, match=message):
        PortfolioTraining(**{"steps": 1, "batch_size": 1, "validate_every": 1, **options})
