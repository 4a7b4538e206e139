"""What all folds of a walk-forward have in common, kept until they are all there."""

import dataclasses
import json

import pytest

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation import walk_plan
from flash_pipeline.evaluation.scores import SCORE_SCHEMA
from flash_pipeline.evaluation.walk_plan import default_models, load_plan, make_plan
from flash_pipeline.evaluation.walkforward import run_fold, write_predictions
from flash_pipeline.training.baselines import BASELINES, Boosting
from flash_pipeline.windows import WalkForwardConfig

TWO = WalkForwardConfig(folds=2)
NAMES = ("zero", "seasonal")


@pytest.fixture
def make(frame, tiny_recipe, tmp_path):
    """Return a function that plans on the small market's windows."""

    def make(*, config=TWO, recipe=tiny_recipe, models=NAMES, windows="windows", fresh=False):
        return make_plan(tmp_path / "walk", tmp_path / windows, recipe, config, models, fresh=fresh)

    return make


def run(plan, *numbers):
    frame = plan.windows()
    for number in numbers:
        ran = run_fold(frame, plan.fold(frame, number), plan.recipe, plan.models)
        write_predictions(ran.table, plan.fold_path(number))


def test_a_plan_comes_back_as_it_was_made(make, frame, tmp_path):
    plan, story = make()
    assert story == "begins on the newest windows"
    assert load_plan(tmp_path / "walk") == plan
    assert plan.snapshot == frame.snapshot == plan.windows().snapshot
    assert json.loads((tmp_path / "walk" / "plan.json").read_text())["snapshot"] == frame.snapshot


def test_an_unfinished_plan_keeps_its_windows_when_there_are_newer_ones(
    make, make_store, make_frame
):
    plan, _ = make()
    run(plan, 1)
    newer = make_frame(make_store(230, name="fewer"))
    again, story = make()
    assert again == plan
    assert story == f"goes on with the windows of snapshot {plan.snapshot}"
    assert again.missing(again.windows()) == [2]
    begun, _ = make(fresh=True)
    assert begun.snapshot == newer.snapshot
    assert begun.missing(begun.windows()) == [1, 2]


def test_a_finished_plan_gives_way_to_one_on_the_newest_windows(make, make_store, make_frame):
    plan, _ = make()
    run(plan, 1, 2)
    plan.finish(plan.windows())
    same, _ = make()
    assert same.key == plan.key
    assert same.missing(same.windows()) == []
    newer = make_frame(make_store(230, name="fewer"))
    assert make()[0].snapshot == newer.snapshot


def test_folds_that_were_never_joined_are_kept(make, make_store, make_frame):
    plan, _ = make()
    run(plan, 1, 2)
    make_frame(make_store(230, name="fewer"))
    assert make() == (plan, f"goes on with the windows of snapshot {plan.snapshot}")
    plan.finish(plan.windows())
    assert plan.is_joined()
    assert not dataclasses.replace(plan, models=("zero",)).is_joined()
    plan.scores.unlink()
    assert make()[0] == plan


@pytest.mark.parametrize(
    "change",
    [
        {"config": WalkForwardConfig(folds=3)},
        {"models": ("zero",)},
        {"config": WalkForwardConfig(folds=2, growth="rolling")},
    ],
)
def test_another_configuration_begins_anew(make, change):
    first, _ = make()
    other, story = make(**change)
    assert other.key != first.key
    assert story == "begins on the newest windows"


def test_a_plan_made_by_other_code_is_none(make, monkeypatch, tmp_path):
    make()
    monkeypatch.setattr("flash_pipeline.training.recipes.code_hash", lambda: "other")
    with pytest.raises(SchemaMismatch, match="made by other code than this: plan it anew"):
        load_plan(tmp_path / "walk")
    assert make()[1] == "begins on the newest windows"


def test_the_joined_folds_are_stored_with_their_measures(make):
    plan, _ = make()
    run(plan, 1)
    with pytest.raises(NotEnoughHistory, match=r"folds 2 of 2 are not stored: .* partitions"):
        plan.finish(plan.windows())
    assert not plan.joined.exists()
    run(plan, 2)
    table, scores = plan.finish(plan.windows())
    assert set(table["fold"].to_pylist()) == {1, 2}
    assert scores.schema.equals(SCORE_SCHEMA)
    assert plan.joined.exists()
    assert plan.scores.exists()


def test_a_fold_of_another_plan_does_not_count(make):
    first, _ = make()
    run(first, 1, 2)
    other, _ = make(config=WalkForwardConfig(folds=3))
    assert other.missing(other.windows()) == [1, 2, 3]


@pytest.mark.parametrize("number", [0, 3])
def test_a_fold_that_is_none_of_the_plan_is_refused(make, frame, number):
    with pytest.raises(InvalidConfig, match=rf"fold {number} is none .*: expected 1 to 2"):
        make()[0].fold(frame, number)


def test_a_fold_too_short_is_refused_and_the_plan_before_stays(make, tmp_path):
    before, _ = make()
    with pytest.raises(NotEnoughHistory, match="take fewer folds or a longer history"):
        make(config=WalkForwardConfig(folds=50))
    assert load_plan(tmp_path / "walk") == before


def test_a_recipe_that_the_windows_were_not_cut_for_is_refused(make, tiny_recipe, tmp_path):
    with pytest.raises(InvalidConfig, match=r"horizon 4; the recipe 'tiny' takes .* by it first"):
        make(recipe=tiny_recipe.with_data(horizon=5))
    assert not (tmp_path / "walk").exists()


def test_unknown_models_and_missing_windows_are_refused(make):
    with pytest.raises(InvalidConfig, match="models oracle: expected some of"):
        make(models=("oracle",))
    with pytest.raises(NotEnoughHistory, match="materialize window_tensors first"):
        make(windows="nowhere")


def test_a_plan_whose_windows_are_lost_is_refused_and_planned_anew(make, tmp_path):
    plan, _ = make()
    (tmp_path / "walk" / "windows" / "blocks.parquet").unlink()
    with pytest.raises(SchemaMismatch, match="has lost its windows: plan it anew"):
        plan.windows()
    assert make()[1] == "begins on the newest windows"
    odd = dataclasses.replace(plan, snapshot="other")
    with pytest.raises(SchemaMismatch, match="its plan is of other: plan it anew"):
        odd.windows()


@pytest.mark.parametrize("content", ["{", "{}", '{"format": 1}', '{"format": 9}'])
def test_a_plan_that_is_none_is_refused(tmp_path, content):
    (tmp_path / walk_plan.PLAN_FILE).write_text(content)
    with pytest.raises(SchemaMismatch, match=r"holds no plan|is of format 9"):
        load_plan(tmp_path)


def test_without_a_plan_the_error_says_what_to_do(tmp_path):
    with pytest.raises(NotEnoughHistory, match="materialize walk_forward_plan first"):
        load_plan(tmp_path)


def test_the_default_models_are_all_that_can_run_but_the_ensemble(monkeypatch):
    assert default_models() == ([*BASELINES, "transformer"], {})
    monkeypatch.setattr(Boosting, "obstacle", classmethod(lambda _: "no OpenMP"))
    models, left_out = default_models()
    assert "boosting" not in models
    assert left_out == {"boosting": "no OpenMP"}
