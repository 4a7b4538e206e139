"""Shape letters: N dates, S symbols."""

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from flash_pipeline.evaluation import quality
from flash_pipeline.evaluation.bootstrap import widened
from flash_pipeline.evaluation.scores import (
    SCORE_SCHEMA,
    Outcome,
    flat_predictions,
    information_coefficients,
    measure,
    outcomes,
    score,
)
from flash_pipeline.evaluation.statistics import stationary_weights
from flash_pipeline.evaluation.walkforward import join_folds, run_fold, write_predictions
from flash_pipeline.training.predictor import Predictions
from flash_pipeline.training.targets import anchor_volatility
from flash_pipeline.windows import WalkForwardConfig, walk_forward

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000
NAN = math.nan


def outcome(prediction_NS, label_NS, **changes):
    prediction_NS, label_NS = (np.asarray(v, float) for v in (prediction_NS, label_NS))
    made_at_N = FIRST_MS + HOUR_MS * np.arange(len(label_NS))
    one = Outcome("model", "regression", made_at_N, prediction_NS, label_NS, None, None)
    return dataclasses.replace(one, **changes)


@pytest.fixture
def noise():
    """Predictions that know a little of the labels of 300 dates and 4 symbols, some unknown."""
    rng = np.random.default_rng(0)
    label_NS = rng.normal(size=(300, 4))
    prediction_NS = np.round(0.2 * label_NS + rng.normal(size=(300, 4)), 1)  # with ties
    label_NS[[3, 50], [0, 1]] = NAN
    prediction_NS[9, 2] = NAN
    return prediction_NS, label_NS


@pytest.fixture
def table(frame, tiny_recipe, tmp_path):
    """Return the joined predictions of two folds by three baselines."""
    paths = []
    for fold in walk_forward(frame, WalkForwardConfig(folds=2)):
        paths.append(tmp_path / f"{fold.number}.parquet")
        names = ["zero", "last_value", "ridge"]
        write_predictions(run_fold(frame, fold, tiny_recipe, names).table, paths[-1])
    return join_folds(paths, tmp_path / "all.parquet")


@pytest.mark.parametrize("name", ["rank_ic", "cross_sectional_ic", "hit_rate", "r2_against_zero"])
def test_the_values_are_those_of_the_quality_measures(noise, name):
    prediction_NS, label_NS = noise
    found = measure(outcome(prediction_NS, label_NS), 1, None)[name].value
    both_NS = np.isfinite(prediction_NS + label_NS)
    expected = getattr(quality, name)(
        np.where(both_NS, prediction_NS, NAN), np.where(both_NS, label_NS, NAN)
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_quantiles_are_measured_by_pinball_loss_and_coverage(noise):
    prediction_NS, label_NS = noise
    prediction_NS = np.nan_to_num(prediction_NS)
    outer_NS2 = np.stack([prediction_NS - 1, prediction_NS + 1], axis=-1)
    one = outcome(prediction_NS, label_NS, head="quantile", outer_NS2=outer_NS2, levels=(0.1, 0.9))
    found = measure(one, 1, stationary_weights(300, 10, draws=100))
    three_NS3 = np.stack([prediction_NS - 1, prediction_NS, prediction_NS + 1], axis=-1)
    expected = quality.pinball(three_NS3, label_NS, (0.1, 0.5, 0.9))
    assert found["pinball"].value == pytest.approx(expected)
    assert found["coverage"].value == pytest.approx(quality.coverage(three_NS3, label_NS))
    for name in ("pinball", "coverage"):
        assert found[name].low < found[name].value < found[name].high


def test_the_information_coefficient_of_each_date_is_by_hand():
    # Ranks 1 2 3 against 1 3 2: 1 - 6 * 2 / (3 * 8). Two known of three, reversed. One known.
    prediction_NS = np.array([[1.0, 2, 3], [1, 2, NAN], [1, NAN, NAN], [5, 5, 5]])
    label_NS = np.array([[1.0, 3, 2], [2, 1, 9], [1, 1, 1], [1, 2, 3]])
    found = information_coefficients(prediction_NS, label_NS)
    np.testing.assert_allclose(found, [0.5, -1.0, NAN, NAN])


def test_icir_is_the_mean_over_the_deviation_of_the_coefficients(noise):
    found = measure(outcome(*noise), 4, None)
    ic_N = information_coefficients(*noise)
    mean, deviation = np.nanmean(ic_N), np.nanstd(ic_N)
    assert found["icir"].value == pytest.approx(mean / deviation)
    plain = mean / (np.nanstd(ic_N, ddof=1) / math.sqrt(np.isfinite(ic_N).sum()))
    assert found["cross_sectional_ic_t"].value == pytest.approx(plain / 2)


def test_an_interval_holds_the_value_and_leaves_zero_out_where_there_is_skill(noise):
    found = measure(outcome(*noise), 1, stationary_weights(300, 10))
    for name in ("rank_ic", "cross_sectional_ic", "hit_rate", "icir"):
        assert found[name].low < found[name].value < found[name].high
    assert found["rank_ic"].low > 0
    assert found["hit_rate"].low > 0.5


def test_the_interval_of_the_rank_ic_is_near_that_of_ranks_taken_anew(noise):
    prediction_NS, label_NS = (np.nan_to_num(v_NS) for v_NS in noise)
    resamples = stationary_weights(300, 10, draws=300)
    found = measure(outcome(prediction_NS, label_NS), 1, resamples)["rank_ic"]
    anew = []
    for counts_N in resamples.weights_RN:
        drawn_N = np.repeat(np.arange(300), counts_N)
        anew.append(quality.rank_ic(prediction_NS[drawn_N], label_NS[drawn_N]))
    off_R = widened(np.array(anew) - found.value, 300, 10, np.random.default_rng(0), 5)
    np.testing.assert_allclose(
        [found.low, found.high], found.value + np.quantile(off_R, [0.025, 0.975]), atol=0.015
    )


def test_a_probability_of_one_half_is_no_signal():
    one = outcome([[0.7], [0.2], [0.5], [0.9]], [[1.0], [-1], [1], [-1]], head="direction")
    found = measure(one, 1, None)
    assert found["hit_rate"].value == pytest.approx(2 / 3)
    assert "r2_against_zero" not in found


def test_equal_predictions_have_no_rank_correlation(noise):
    found = measure(outcome(np.full((300, 4), 0.3), noise[1]), 1, stationary_weights(300, 10))
    assert math.isnan(found["rank_ic"].value)
    assert math.isnan(found["rank_ic"].low)
    assert math.isnan(found["cross_sectional_ic"].value)


def test_one_symbol_has_no_measure_across_symbols(noise):
    found = measure(outcome(noise[0][:, :1], noise[1][:, :1]), 1, None)
    assert {"rank_ic", "rank_ic_t", "hit_rate", "r2_against_zero"} == set(found)


def test_a_table_is_scored_over_all_dates_by_symbol_and_by_month(table):
    scores = score(table, draws=50)
    assert scores.schema.equals(SCORE_SCHEMA)
    found = {(r["model"], r["scope"], r["measure"]): r for r in scores.to_pylist()}
    assert {model for model, _, _ in found} == {"zero", "last_value", "ridge"}
    scopes = {scope for _, scope, _ in found}
    assert scopes == {"all", "BTCUSDT", "ETHUSDT", "SOLUSDT", "2024-01"}
    whole = found["last_value", "all", "rank_ic"]
    assert whole["low"] < whole["value"] < whole["high"]
    month = found["last_value", "2024-01", "rank_ic"]
    assert month["low"] is None
    assert month["value"] == pytest.approx(whole["value"])  # all dates lie in that month
    each = [found["last_value", s, "rank_ic"]["value"] for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    assert whole["value"] == pytest.approx(np.mean(each))
    assert found["zero", "all", "rank_ic"]["value"] is None
    assert found["zero", "all", "r2_against_zero"]["value"] == 0.0


def test_equal_seeds_give_equal_scores(table):
    assert score(table, draws=20, seed=1).equals(score(table, draws=20, seed=1))
    assert not score(table, draws=20, seed=1).equals(score(table, draws=20, seed=2))


def test_too_few_dates_for_two_blocks_have_no_interval(table):
    few = table.filter(pc.less(table["made_at"], table["made_at"][0].as_py() + 10 * HOUR_MS))
    low = score(few.filter(pc.equal(few["model"], "ridge")), draws=20)["low"]
    assert low.null_count == len(low)


def test_outcomes_are_the_tables_rows_by_date_and_symbol(table):
    one = next(o for o in outcomes(table) if o.model == "ridge")
    rows = table.filter(pc.equal(table["model"], "ridge"))
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(rows.num_rows)))
    other = outcomes(shuffled)[0]
    np.testing.assert_array_equal(one.prediction_NS, other.prediction_NS)
    assert one.prediction_NS.reshape(-1).tolist() == rows["prediction"].to_pylist()


def test_flat_predictions_are_named(table):
    assert flat_predictions(table) == {"zero": ["BTCUSDT", "ETHUSDT", "SOLUSDT"]}


def test_predictions_that_hardly_move_in_one_symbol_are_flat_there(table):
    place = table.schema.get_field_index("prediction")
    flattened = pc.if_else(
        pc.equal(table["symbol"], "ETHUSDT"), pa.scalar(0.01, pa.float32()), table["prediction"]
    )
    other = table.set_column(place, table.schema.field(place), flattened)
    assert flat_predictions(other)["ridge"] == ["ETHUSDT"]


def replaced(table, **columns):
    """Return a table with other values in some columns."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, pa.float32()))
    return table


@pytest.mark.parametrize("constant", [0.01, 0.05])
def test_a_constant_that_is_multiplied_by_the_volatility_is_flat(table, constant):
    # Each fold fits its own constant, so the rows differ by fold as well.
    rng = np.random.default_rng(0)
    unit = 0.02 * np.exp(0.5 * rng.normal(size=table.num_rows))
    told = constant * unit * table["fold"].to_numpy()
    everyone = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    flat = flat_predictions(replaced(table, prediction=told, unit=unit))
    assert flat == dict.fromkeys(["zero", "last_value", "ridge"], everyone)
    alive = told + 0.03 * unit * rng.normal(size=len(unit))  # R2 of about 0.001
    assert flat_predictions(replaced(table, prediction=alive, unit=unit)) == {}


def test_a_transformer_that_always_says_the_same_is_flat(frame, tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe.with_training(target_scaling="volatility")

    def constant(frame, bundle, index_N):
        sigma_NS = anchor_volatility(frame)[index_N]
        return Predictions(bundle.to_units(np.full_like(sigma_NS, 0.05), sigma_NS))

    monkeypatch.setattr("flash_pipeline.evaluation.contenders.predict_windows", constant)
    fold = walk_forward(frame, WalkForwardConfig(folds=2))[0]
    ran = run_fold(frame, fold, recipe, ["transformer"]).table
    assert np.std(ran["prediction"].to_numpy()) > 1e-3 * np.std(ran["label"].to_numpy())
    assert flat_predictions(ran) == {"transformer": ["BTCUSDT", "ETHUSDT", "SOLUSDT"]}
