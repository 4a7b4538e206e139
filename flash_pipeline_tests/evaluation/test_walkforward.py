import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flash_pipeline.errors import ModelError, NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation import walkforward
from flash_pipeline.evaluation.walkforward import (
    PREDICTION_SCHEMA,
    add_models,
    describe_predictions,
    join_folds,
    read_predictions,
    run_fold,
    write_predictions,
)
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.windows import WalkForwardConfig, walk_forward

NAMES = ("zero", "last_value", "ridge")


@pytest.fixture
def folds(frame):
    return walk_forward(frame, WalkForwardConfig(folds=2))


@pytest.fixture
def stored(frame, folds, tiny_recipe, tmp_path):
    """Return the files of both folds, run with three baselines."""
    paths = [tmp_path / f"fold-{fold.number}.parquet" for fold in folds]
    for fold, path in zip(folds, paths, strict=True):
        write_predictions(run_fold(frame, fold, tiny_recipe, NAMES).table, path)
    return paths


def test_a_fold_gives_one_row_for_every_model_date_and_symbol(frame, folds, tiny_recipe):
    ran = run_fold(frame, folds[0], tiny_recipe, NAMES)
    test_N = folds[0].split.test_N
    assert ran.table.schema.equals(PREDICTION_SCHEMA)
    assert ran.table.num_rows == 3 * len(test_N) * 3
    assert set(ran.models) == set(ran.seconds) == set(NAMES)
    keys = {(r["model"], r["made_at"], r["symbol"]) for r in ran.table.to_pylist()}
    assert len(keys) == ran.table.num_rows
    assert pc.unique(ran.table["head"]).to_pylist() == ["regression"]


def test_the_rows_hold_what_the_model_says_and_what_came(frame, folds, tiny_recipe):
    ran = run_fold(frame, folds[0], tiny_recipe, NAMES)
    test_N = folds[0].split.test_N
    rows = ran.table.filter(pc.equal(ran.table["model"], "ridge"))
    told_NS = ran.models["ridge"].predict(frame, test_N).value_NS
    np.testing.assert_array_equal(rows["prediction"].to_numpy().reshape(-1, 3), told_NS)
    np.testing.assert_array_equal(rows["label"].to_numpy().reshape(-1, 3), frame.label_NS[test_N])
    assert rows["made_at"].to_numpy().tolist() == np.repeat(frame.made_at_N[test_N], 3).tolist()
    assert (rows["label_end"].to_numpy() == np.repeat(frame.label_end_N[test_N], 3)).all()
    assert rows["symbol"].to_pylist()[:3] == list(frame.symbols)
    assert rows["lower"].null_count == rows["upper"].null_count == rows.num_rows


def test_quantiles_are_stored_with_their_levels(frame, folds, tiny_recipe):
    ran = run_fold(frame, folds[0], tiny_recipe.with_model(head="quantile"), ["transformer"])
    told = ran.models["transformer"].predict(frame, folds[0].split.test_N)
    lower_NS = ran.table["lower"].to_numpy().reshape(-1, 3)
    np.testing.assert_array_equal(lower_NS, told.quantiles_NSQ[..., 0])
    assert (ran.table["upper"].to_numpy() >= ran.table["lower"].to_numpy()).all()
    meta = describe_predictions(ran.table)
    levels = ran.models["transformer"].levels
    assert meta.levels == {"transformer": (levels[0], levels[-1])}
    assert pc.unique(ran.table["head"]).to_pylist() == ["quantile"]


def test_labels_that_are_not_known_are_null(make_store, make_frame, tiny_recipe):
    frame = make_frame(make_store(absent={"SOLUSDT": range(200, 204)}))
    fold = walk_forward(frame, WalkForwardConfig(folds=1))[0]
    table = run_fold(frame, fold, tiny_recipe, ["zero"]).table
    unknown = int(np.isnan(frame.label_NS[fold.split.test_N]).sum())
    assert table["label"].null_count == unknown > 0


def test_joined_folds_are_all_rows_by_fold_with_the_dates_of_each(frame, folds, stored, tmp_path):
    joined = join_folds(stored[::-1], tmp_path / "all.parquet")
    assert joined.equals(read_predictions(tmp_path / "all.parquet"))
    assert pc.unique(joined["fold"]).to_pylist() == [1, 2]
    tested = sum(len(fold.split.test_N) for fold in folds)
    assert joined.num_rows == tested * 3 * 3
    meta = describe_predictions(joined)
    assert list(meta.folds) == [fold.to_dict(frame) for fold in folds]
    assert (meta.snapshot, meta.horizon, meta.symbols) == (frame.snapshot, 4, frame.symbols)


def test_joining_again_writes_the_same_bytes(stored, tmp_path):
    for name in ("a", "b"):
        join_folds(stored, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_fold_is_named_and_what_was_joined_before_stays(stored, tmp_path):
    target = tmp_path / "all.parquet"
    join_folds(stored, target)
    before = target.read_bytes()
    with pytest.raises(NotEnoughHistory, match=r"folds 2 are stored: expected 1 to 2"):
        join_folds(stored[1:], target)
    assert target.read_bytes() == before


def test_a_fold_stored_twice_is_refused(stored, tmp_path):
    with pytest.raises(NotEnoughHistory, match=r"folds 1, 1 are stored"):
        join_folds([stored[0], stored[0]], tmp_path / "all.parquet")


def test_no_fold_at_all_is_refused(tmp_path):
    with pytest.raises(NotEnoughHistory, match="no folds to join"):
        join_folds([], tmp_path / "all.parquet")


def test_folds_of_other_models_are_refused(frame, folds, stored, tiny_recipe, tmp_path):
    write_predictions(run_fold(frame, folds[1], tiny_recipe, ["zero"]).table, stored[1])
    with pytest.raises(SchemaMismatch, match="another recipe or other models than"):
        join_folds(stored, tmp_path / "all.parquet")


def test_folds_of_another_recipe_are_refused(frame, folds, stored, tiny_recipe, tmp_path):
    other = tiny_recipe.with_training(seed=1)
    write_predictions(run_fold(frame, folds[1], other, NAMES).table, stored[1])
    with pytest.raises(SchemaMismatch, match="of other windows, another recipe"):
        join_folds(stored, tmp_path / "all.parquet")


def test_a_failing_model_leaves_nothing_of_its_fold(frame, folds, tiny_recipe, monkeypatch):
    def fail(*_args):
        raise ModelError("no such luck")

    monkeypatch.setattr(walkforward, "contenders", lambda *_: {"zero": fail})
    with pytest.raises(ModelError, match="no such luck"):
        run_fold(frame, folds[0], tiny_recipe, ["zero"])


def test_a_model_that_predicts_nan_is_refused(frame, folds, tiny_recipe, monkeypatch):
    class Broken:
        head = "regression"

        def predict(self, frame, index_N):
            return Predictions(np.full((len(index_N), len(frame.symbols)), np.nan, np.float32))

    monkeypatch.setattr(walkforward, "contenders", lambda *_: {"broken": lambda *_: Broken()})
    with pytest.raises(ModelError, match="broken predicts NaN in fold 1"):
        run_fold(frame, folds[0], tiny_recipe, ["broken"])


def test_a_folder_without_predictions_is_refused(tmp_path):
    with pytest.raises(NotEnoughHistory, match="run the walk-forward first"):
        read_predictions(tmp_path / "all.parquet")


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    path = tmp_path / "all.parquet"
    if content is None:
        write_predictions(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(SchemaMismatch, match=r"readable predictions|has the columns"):
        read_predictions(path)


def test_models_of_two_runs_over_the_same_folds_stand_in_one_table(
    frame, folds, stored, tiny_recipe, tmp_path
):
    joined = join_folds(stored, tmp_path / "all.parquet")
    other = run_all(frame, folds, tiny_recipe.with_training(seed=1), ["seasonal"], tmp_path)
    both = add_models(joined, other)
    assert both.num_rows == joined.num_rows * 4 // 3
    assert describe_predictions(both) == describe_predictions(joined)
    assert set(pc.unique(both["model"]).to_pylist()) == {*NAMES, "seasonal"}


def test_models_of_the_same_name_or_other_folds_are_not_mixed(frame, stored, tiny_recipe, tmp_path):
    joined = join_folds(stored, tmp_path / "all.parquet")
    with pytest.raises(SchemaMismatch, match="both have predictions of last_value, ridge, zero"):
        add_models(joined, joined)
    three = walk_forward(frame, WalkForwardConfig(folds=3))
    other = run_all(frame, three, tiny_recipe, ["seasonal"], tmp_path)
    with pytest.raises(SchemaMismatch, match="other windows or folds"):
        add_models(joined, other)


def test_predictions_of_another_version_of_the_package_are_refused(stored):
    table = read_predictions(stored[0])
    values = json.loads(table.schema.metadata[b"walk_forward"])
    del values["scales"]
    older = table.replace_schema_metadata({b"walk_forward": json.dumps(values).encode()})
    with pytest.raises(SchemaMismatch, match=r"another version of the package.*scales"):
        describe_predictions(older)


def test_the_description_is_json(frame, folds, tiny_recipe):
    table = run_fold(frame, folds[0], tiny_recipe, ["zero"]).table
    values = json.loads(table.schema.metadata[b"walk_forward"])
    assert values["folds"][0]["test"]["windows"] == len(folds[0].split.test_N)
    names = {field.name for field in dataclasses.fields(walkforward.WalkForwardMeta)}
    assert set(values) == names


def run_all(frame, folds, recipe, names, folder):
    """Run all folds and return the joined table."""
    paths = []
    for fold in folds:
        paths.append(folder / f"{names[0]}-{fold.number}.parquet")
        write_predictions(run_fold(frame, fold, recipe, names).table, paths[-1])
    return join_folds(paths, folder / f"{names[0]}.parquet")
