import math

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.windows import PurgedConfig, backtest_paths, purged, purged_folds
from flash_pipeline_tests.windows.conftest import HOUR_MS, frame_of


@st.composite
def configs(draw):
    groups = draw(st.integers(2, 6))
    return PurgedConfig(
        groups,
        tested=draw(st.integers(1, min(3, groups - 1))),
        validation=draw(st.floats(0.1, 0.4)),
        embargo=draw(st.integers(0, 5)),
        reach=draw(st.integers(0, 8)),
    )


CASES = {
    "windows": st.integers(100, 250),
    "unknown": st.sets(st.integers(0, 249), max_size=30),
    "horizon": st.integers(1, 6),
    "config": configs(),
}


def folds_of(windows, unknown, horizon, config):
    labels_N = np.where(np.isin(np.arange(windows), list(unknown)), np.nan, 0.0)
    frame = frame_of(labels_N, horizon)
    try:
        return frame, purged_folds(frame, config)
    except NotEnoughHistory:
        reject()


def meet(frame, learnt_N, judged_N, embargo, reach):
    """Say whether any two label intervals meet, each pair by itself."""
    from_N = frame.made_at_N[learnt_N] - reach * HOUR_MS
    from_M, until_M = frame.made_at_N[judged_N], frame.label_end_N[judged_N] + embargo * HOUR_MS
    begun_NM = from_M < frame.label_end_N[learnt_N][:, None]
    return bool((begun_NM & (from_N[:, None] < until_M)).any())


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_no_training_label_meets_a_test_or_validation_interval(windows, unknown, horizon, config):
    frame, folds = folds_of(windows, unknown, horizon, config)
    for fold in folds:
        split = fold.split
        assert not meet(frame, split.train_N, split.test_N, config.embargo, config.reach)
        assert not meet(frame, split.train_N, split.validation_N, config.embargo, config.reach)
        assert not meet(frame, split.validation_N, split.test_N, config.embargo, config.reach)


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_every_labelled_window_is_tested_equally_often(windows, unknown, horizon, config):
    frame, folds = folds_of(windows, unknown, horizon, config)
    tested_N = np.concatenate([fold.split.test_N for fold in folds])
    times_N = np.bincount(tested_N, minlength=windows)
    often = math.comb(config.groups - 1, config.tested - 1)
    assert (times_N == np.where(frame.known_N, often, 0)).all()
    assert len(folds) == math.comb(config.groups, config.tested)


@settings(max_examples=50, deadline=None)
@given(config=configs())
def test_every_path_crosses_each_group_by_a_fold_that_tests_it(config):
    frame = frame_of(np.zeros(600), 1)
    folds = {fold.number: fold for fold in purged_folds(frame, config)}
    paths_PG = backtest_paths(config)
    for group, numbers in enumerate(paths_PG.T):
        assert all(group in folds[number].groups for number in numbers)
        assert len(set(numbers.tolist())) == len(paths_PG)


def test_what_is_left_to_train_on_equals_skfolios():
    # skfolio 1.12.2, CombinatorialPurgedCV(n_folds=4, n_test_folds=2, purged_size=2,
    # embargo_size=1) over 80 rows. A label of 3 bars overlaps those of 2 rows to either side.
    expected = [
        [*range(43, 80)],
        [*range(23, 38), *range(63, 80)],
        [*range(23, 58)],
        [*range(18), *range(63, 80)],
        [*range(18), *range(43, 58)],
        [*range(38)],
    ]
    frame = frame_of(np.zeros(80), 3)
    folds = purged_folds(frame, PurgedConfig(4, 2, validation=0.2, embargo=1))
    for fold, rows in zip(folds, expected, strict=True):
        train_N, validation_N = fold.split.train_N, fold.split.validation_N
        # skfolio has no validation range: what it costs the training is left out here.
        inner = [n for n in rows if n not in validation_N]
        apart_N = purged(frame, np.array(inner), validation_N, after=1)
        assert train_N.tolist() == apart_N.tolist()
        assert set(validation_N.tolist()) == set(rows[-len(validation_N) :])


def test_the_paths_equal_those_of_skfolio():
    # skfolio 1.12.2, get_path_ids() of the same folds: the path of each fold's tested groups.
    expected = [[0, 0], [1, 0], [2, 0], [1, 1], [2, 1], [2, 2]]
    config = PurgedConfig(4, 2)
    paths_PG = backtest_paths(config)
    folds = purged_folds(frame_of(np.zeros(400), 3), config)
    found = [
        [int(np.flatnonzero(paths_PG[:, group] == fold.number)[0]) for group in fold.groups]
        for fold in folds
    ]
    assert found == expected


def test_a_group_is_tested_between_what_is_purged_and_what_is_embargoed():
    config = PurgedConfig(3, validation=0.25, embargo=5)
    fold = purged_folds(frame_of(np.zeros(120), 4), config)[1]
    assert fold.groups == (1,)
    assert fold.split.test_N.tolist() == list(range(40, 80))
    # 37 to 39 end in the test range; 80 to 82 overlap its last labels, 5 more are embargoed.
    assert fold.split.train_N.tolist() == [*range(37), *range(88, 100)]
    assert fold.split.validation_N.tolist() == list(range(103, 120))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 1}, "groups=1: expected at least 2"),
        ({"tested": 0}, "tested=0: expected 1 to 4 groups"),
        ({"tested": 5}, "tested=5: expected 1 to 4 groups"),
        ({"validation": 1.5}, "validation=1.5: expected a share"),
        ({"embargo": -2}, "embargo=-2: expected 0 or more bars"),
        ({"reach": -1}, "reach=-1: expected 0 or more bars"),
    ],
)
def test_values_out_of_bounds_are_refused(changes, message):
    with pytest.raises(InvalidConfig, match=message):
        PurgedConfig(**changes)


def test_too_many_groups_for_the_horizon_are_refused():
    with pytest.raises(NotEnoughHistory, match=r"fold 1 has 10 test windows .* take fewer folds"):
        purged_folds(frame_of(np.zeros(100), 12), PurgedConfig(10))
