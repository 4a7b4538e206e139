"""Shape letters: N anchors, S symbols, Q quantile levels."""

import math

import numpy as np
import pytest

from flash_pipeline.evaluation.quality import (
    coverage,
    cross_sectional_ic,
    hit_rate,
    pinball,
    r2_against_zero,
    rank_ic,
)

NAN = math.nan


def columns(*symbols):
    return np.array(symbols, dtype=float).T


@pytest.mark.parametrize(
    ("prediction", "label", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        # Differences of rank 0, 1, 1, 0: 1 - 6 * 2 / (4 * 15).
        ([1, 2, 3, 4], [1, 3, 2, 4], 0.8),
        ([1, NAN, 2, 3, 4], [1, 0, 3, 2, 4], 0.8),
        ([1, 2, 3, 4, 9], [1, 3, 2, 4, NAN], 0.8),
    ],
)
def test_rank_ic_is_spearmans_correlation_by_hand(prediction, label, expected):
    assert rank_ic(columns(prediction), columns(label)) == pytest.approx(expected)


def test_ties_take_mean_ranks():
    # Ranks 1.5, 1.5, 3 against 1, 2, 3: a covariance of 1.5 over sqrt(1.5 * 2).
    value = rank_ic(columns([5, 5, 7]), columns([1, 2, 3]))
    assert value == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_rank_ic_is_the_mean_of_the_symbols_that_have_one():
    prediction = columns([1, 2, 3, 4], [1, 2, 3, 4], [7, 7, 7, 7])
    label = columns([1, 2, 3, 4], [1, 3, 2, 4], [1, 2, 3, 4])
    assert rank_ic(prediction, label) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("prediction", "label"), [([1, 1, 1], [1, 2, 3]), ([1, 2], [NAN, 1]), ([], [])]
)
def test_rank_ic_is_nan_where_nothing_differs(prediction, label):
    assert math.isnan(rank_ic(columns(prediction), columns(label)))


def test_cross_sectional_ic_is_the_mean_over_time_of_the_ranks_across_symbols():
    prediction = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]])
    label = np.array([[1.0, 3, 2, 4], [4, 3, 2, 1]])
    assert cross_sectional_ic(prediction, label) == pytest.approx((0.8 - 1) / 2)


def test_cross_sectional_ic_leaves_unknown_symbols_out_of_the_ranks():
    prediction = np.array([[1.0, 9, 2, 3, 4]])
    label = np.array([[1.0, NAN, 3, 2, 4]])
    assert cross_sectional_ic(prediction, label) == pytest.approx(0.8)


def test_cross_sectional_ic_of_one_symbol_is_nan():
    assert math.isnan(cross_sectional_ic(columns([1, 2, 3]), columns([1, 2, 3])))


def test_hit_rate_counts_equal_signs_without_zeros_and_unknowns():
    signal = np.array([[1.0, -1, 1, 0, 1, NAN]])
    label = np.array([[0.1, -0.2, -0.1, 0.3, NAN, 0.1]])
    assert hit_rate(signal, label) == pytest.approx(2 / 3)


def test_hit_rate_of_nothing_is_nan():
    assert math.isnan(hit_rate(np.zeros((3, 2)), np.ones((3, 2))))


@pytest.mark.parametrize(
    ("prediction", "expected"), [([0, 0], 0.0), ([3, 4], 1.0), ([3, 0], 1 - 16 / 25), ([6, 8], 0.0)]
)
def test_r2_is_one_less_the_error_over_that_of_the_zero_forecast(prediction, expected):
    assert r2_against_zero(columns(prediction), columns([3, 4])) == pytest.approx(expected)


def test_r2_is_the_mean_of_the_symbols_and_leaves_unknowns_out():
    prediction = columns([3, 0, 9], [1, 1, 1])
    label = columns([3, 4, NAN], [2, 0, 0])
    assert r2_against_zero(prediction, label) == pytest.approx((9 / 25 + (1 - 3 / 4)) / 2)


def test_r2_of_labels_that_are_all_zero_is_nan():
    assert math.isnan(r2_against_zero(columns([1.0]), columns([0.0])))


def test_the_pinball_loss_by_hand():
    quantiles_NSQ = np.array([[[-1.0, 0.0, 2.0]], [[0.0, 1.0, 2.0]]])
    labels_NS = columns([1.0, -1.0])
    first = 0.1 * 2 + 0.5 * 1 + 0.1 * 1  # over, over, under
    second = 0.9 * 1 + 0.5 * 2 + 0.1 * 3  # under all three
    loss = pinball(quantiles_NSQ, labels_NS, (0.1, 0.5, 0.9))
    assert loss == pytest.approx((first + second) / 2)


def test_the_pinball_loss_leaves_unknown_labels_out():
    quantiles_NSQ = np.zeros((2, 1, 1))
    assert pinball(quantiles_NSQ, columns([NAN, 2.0]), (0.5,)) == 1.0


def test_the_median_has_half_the_absolute_error_as_its_pinball_loss():
    labels_NS = np.random.default_rng(0).normal(size=(9, 2))
    assert pinball(np.zeros((9, 2, 1)), labels_NS, (0.5,)) == pytest.approx(
        np.abs(labels_NS).mean() / 2
    )


def test_coverage_counts_the_known_labels_between_the_outer_quantiles():
    quantiles_NSQ = np.tile([-1.0, 0.0, 1.0], (5, 1, 1))
    assert coverage(quantiles_NSQ, columns([-2.0, -1.0, 0.5, 1.5, NAN])) == 0.5


def test_coverage_of_nothing_is_nan():
    assert math.isnan(coverage(np.zeros((2, 1, 3)), columns([NAN, NAN])))
