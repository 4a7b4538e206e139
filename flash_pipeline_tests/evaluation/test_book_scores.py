"""Scores of forecasts of an order book's mid price. Shape letters: N windows, H horizons."""

import math

import numpy as np
import pytest

from flash_pipeline.errors import InvalidInput
from flash_pipeline.evaluation.book_scores import (
    STATE,
    HeldOut,
    calibration,
    difference,
    matthews,
    score,
    verdict,
    window_losses,
)

N = 600


@pytest.fixture
def held():
    rng = np.random.default_rng(0)
    label_NH = rng.integers(0, 3, (N, 2))
    move_NH = (label_NH - 1) + 0.1 * rng.normal(size=(N, 2))
    return HeldOut(np.arange(N) * 5_000, label_NH, move_NH, (1, 10), 5_000, 1_000, 8)


def even(held):
    return np.full((*held.label_NH.shape, 3), 1 / 3, np.float32)


def knowing(held, share):
    truth = np.eye(3, dtype=np.float32)[np.maximum(held.label_NH, 0)]
    return (share * truth + (1 - share) / 3).astype(np.float32)


def of(rows, model, horizon=0):
    return next(row for row in rows if (row.model, row.horizon) == (model, horizon))


def test_a_forecaster_that_knows_more_wins_and_its_interval_excludes_zero(held):
    rows = score(held, {"imbalance": even(held), "joint": knowing(held, 0.2)})
    flat, own = of(rows, "imbalance"), of(rows, "joint")
    assert flat.log_loss == pytest.approx(math.log(3), abs=1e-6)
    assert (flat.gain, flat.gain_low, flat.gain_high) == (0, 0, 0)
    assert own.gain == pytest.approx(flat.log_loss - own.log_loss)
    assert own.accuracy == own.mcc == 1
    assert own.rank_correlation > 0.9
    assert own.wins
    assert verdict(rows, "joint").startswith("beats logistic imbalance by 0.3365")


def test_one_that_knows_nothing_has_no_edge(held):
    rng = np.random.default_rng(1)
    noise = rng.dirichlet([60, 60, 60], held.label_NH.shape).astype(np.float32)
    told = rng.dirichlet([60, 60, 60], held.label_NH.shape).astype(np.float32)
    rows = score(held, {"imbalance": told, "joint": noise})
    own = of(rows, "joint")
    assert own.gain_low < 0 < own.gain_high
    assert verdict(rows, "joint").startswith("has no edge over logistic imbalance")
    worse = score(held, {"imbalance": knowing(held, 0.3), "joint": noise})
    assert "is worse than logistic imbalance" in verdict(worse, "joint")


def test_who_knows_when_but_not_where_earns_nothing_on_direction(held):
    when = even(held)
    when[held.label_NH == 1] = [0.2, 0.6, 0.2]
    when[held.label_NH != 1] = [0.4, 0.2, 0.4]
    own = of(score(held, {"imbalance": even(held), "joint": when}), "joint")
    assert own.wins
    assert own.direction_gain == pytest.approx(0, abs=1e-6)
    knows = of(score(held, {"imbalance": even(held), "joint": knowing(held, 0.2)}), "joint")
    assert knows.direction_low > 0


def test_unknown_labels_do_not_count(held):
    held.label_NH[::2] = -1
    held.move_NH[::2] = np.nan
    told = knowing(held, 0.2)
    told[::2] = [0.98, 0.01, 0.01]
    own = of(score(held, {"imbalance": even(held), "joint": told}), "joint")
    assert own.windows == N // 2
    assert own.accuracy == 1
    assert np.isnan(window_losses(held, told)[::2]).all()


def test_a_gain_that_follows_the_hours_has_a_wider_interval_than_one_of_chance():
    hours = 12
    label_NH = np.zeros((hours * 720, 1), int)
    held = HeldOut(
        np.arange(len(label_NH)) * 5_000, label_NH, label_NH - 1.0, (1,), 5_000, 1_000, 8
    )
    rng = np.random.default_rng(5)
    by_hour_N = np.repeat(rng.normal(size=hours), 720)[:, None]
    even_N = np.zeros_like(by_hour_N)
    mean, low, high = difference(held, even_N, by_hour_N, None)
    shuffled_N = rng.permutation(by_hour_N)
    mixed, mixed_low, mixed_high = difference(held, even_N, shuffled_N, None)
    assert mixed == pytest.approx(mean)
    # The mean of 12 independent hours, not of 8,640 instants.
    assert high - low > 2 * 1.96 * by_hour_N.std() / hours**0.5
    assert high - low > 5 * (mixed_high - mixed_low)


def test_another_reference_is_named_in_the_verdict(held):
    told = {"imbalance": even(held), "state": knowing(held, 0.3), "joint": knowing(held, 0.2)}
    rows = score(held, told, STATE)
    assert of(rows, "state").gain == 0 > of(rows, "joint").gain
    assert verdict(rows, "joint", STATE).startswith("is worse than logistic state")


def test_windows_that_share_an_instant_count_as_one(held):
    joint = {"imbalance": even(held), "joint": knowing(held, 0.2) * 0.5 + even(held) * 0.5}
    joint["joint"][::3] = even(held)[::3]
    alone = of(score(held, joint), "joint")
    twice = HeldOut(
        np.repeat(held.time_N, 2),
        np.repeat(held.label_NH, 2, 0),
        np.repeat(held.move_NH, 2, 0),
        *(held.horizons, held.stride_ms, held.cadence_ms, held.history_length),
    )
    doubled = of(score(twice, {n: np.repeat(p, 2, 0) for n, p in joint.items()}), "joint")
    assert doubled.gain_low == pytest.approx(alone.gain_low)


def test_matthews_is_1_when_right_and_0_by_chance_or_when_it_never_varies():
    label = np.array([0, 1, 2, 0, 1, 2])
    assert matthews(label, label) == pytest.approx(1)
    assert matthews(label, np.zeros(6, int)) == 0
    chance = np.random.default_rng(0).integers(0, 3, (2, 30_000))
    assert abs(matthews(*chance)) < 0.02


def test_calibration_is_the_share_that_came(held):
    points = calibration(held, even(held), bins=4)
    assert [point["forecast"] for point in points] == pytest.approx([1 / 3] * 4)
    assert sum(point["count"] for point in points) == N * 2 * 3
    assert np.mean([point["observed"] for point in points]) == pytest.approx(1 / 3, abs=1e-3)


def test_a_missing_reference_and_no_probabilities_are_refused(held):
    with pytest.raises(InvalidInput, match="'imbalance' among them"):
        score(held, {"joint": even(held)})
    with pytest.raises(InvalidInput, match="sum to 1"):
        score(held, {"imbalance": 2 * even(held)})
