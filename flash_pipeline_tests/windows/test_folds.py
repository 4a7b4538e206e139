import json

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.windows import WalkForwardConfig, walk_forward
from flash_pipeline_tests.windows.conftest import HOUR_MS, frame_of

CONFIGS = st.builds(
    WalkForwardConfig,
    folds=st.integers(1, 6),
    history=st.floats(0.3, 0.7),
    growth=st.sampled_from(["expanding", "rolling"]),
    validation=st.floats(0.1, 0.4),
    embargo=st.integers(0, 5),
)


def with_holes(windows, unknown, horizon):
    return frame_of(np.where(np.isin(np.arange(windows), list(unknown)), np.nan, 0.0), horizon)


@settings(max_examples=200, deadline=None)
@given(
    windows=st.integers(80, 300),
    unknown=st.sets(st.integers(0, 299), max_size=30),
    horizon=st.integers(1, 8),
    config=CONFIGS,
)
def test_no_label_of_a_range_meets_the_ranges_after_it(windows, unknown, horizon, config):
    frame = with_holes(windows, unknown, horizon)
    try:
        folds = walk_forward(frame, config)
    except NotEnoughHistory:
        reject()
    gap_ms = config.embargo * HOUR_MS
    for fold in folds:
        train_N, validation_N, test_N = (
            fold.split.train_N,
            fold.split.validation_N,
            fold.split.test_N,
        )
        for earlier_N, later_N in ((train_N, validation_N), (validation_N, test_N)):
            assert frame.label_end_N[earlier_N].max() + gap_ms <= frame.made_at_N[later_N].min()


@settings(max_examples=200, deadline=None)
@given(
    windows=st.integers(80, 300),
    unknown=st.sets(st.integers(0, 299), max_size=30),
    horizon=st.integers(1, 8),
    config=CONFIGS,
)
def test_every_labelled_window_after_the_history_is_tested_once(windows, unknown, horizon, config):
    frame = with_holes(windows, unknown, horizon)
    try:
        folds = walk_forward(frame, config)
    except NotEnoughHistory:
        reject()
    tested_N = np.concatenate([fold.split.test_N for fold in folds])
    known_N = np.flatnonzero(frame.known_N)
    assert tested_N.tolist() == known_N[int(config.history * len(known_N)) :].tolist()
    assert [fold.number for fold in folds] == list(range(1, config.folds + 1))


def test_an_expanding_fold_learns_from_all_of_its_past():
    first, second = walk_forward(frame_of(np.zeros(100), 2), WalkForwardConfig(2, 0.5))
    assert first.split.train_N.tolist() == list(range(42))
    assert first.split.validation_N.tolist() == list(range(43, 49))
    assert first.split.test_N.tolist() == list(range(50, 75))
    assert second.split.train_N.tolist() == list(range(63))
    assert second.split.validation_N.tolist() == list(range(64, 74))
    assert second.split.test_N.tolist() == list(range(75, 100))


def test_a_rolling_fold_learns_from_as_much_as_the_first():
    frame = frame_of(np.zeros(100), 2)
    first, second = walk_forward(frame, WalkForwardConfig(2, 0.5, "rolling"))
    assert first.split.train_N.tolist() == list(range(42))
    assert second.split.train_N.tolist() == list(range(25, 67))
    assert second.split.validation_N.tolist() == list(range(68, 74))


def test_a_fold_names_snapshot_and_dates_in_plain_values():
    frame = frame_of(np.zeros(100), 2)
    told = walk_forward(frame, WalkForwardConfig(2, 0.5))[0].to_dict(frame)
    assert json.loads(json.dumps(told)) == told
    assert (told["fold"], told["snapshot"]) == (1, frame.snapshot)
    assert told["train"]["from"] == "2024-01-01T01:00Z"
    assert told["train"]["labels_to"] == told["validation"]["from"] == "2024-01-02T20:00Z"


def test_a_fold_too_short_to_train_is_refused():
    message = r"fold 1 has 3 training windows \(2024-01-01T01:00Z to .*\), expected at least 8"
    with pytest.raises(NotEnoughHistory, match=message):
        walk_forward(frame_of(np.zeros(100), 8), WalkForwardConfig(2, 0.2, validation=0.5))


def test_a_fold_whose_training_is_all_purged_is_refused():
    with pytest.raises(NotEnoughHistory, match="fold 1 has 0 training windows, expected"):
        walk_forward(frame_of(np.zeros(100), 8), WalkForwardConfig(2, 0.15, validation=0.6))


def test_a_horizon_longer_than_the_test_range_is_refused():
    message = "fold 1 has 10 test windows .* expected at least 12 with a horizon of 12 bars"
    with pytest.raises(NotEnoughHistory, match=message):
        walk_forward(frame_of(np.zeros(100), 12), WalkForwardConfig(5, 0.5))


def test_a_validation_range_that_is_all_purged_is_refused():
    with pytest.raises(NotEnoughHistory, match="fold 1 has 0 validation windows"):
        walk_forward(frame_of(np.zeros(100), 10), WalkForwardConfig(2, 0.5, validation=0.1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 0}, "folds=0: expected at least 1"),
        ({"history": 1.0}, "history=1.0: expected a share between 0 and 1"),
        ({"validation": 0.0}, "validation=0.0: expected a share"),
        ({"growth": "sliding"}, "growth='sliding': expected one of"),
        ({"embargo": -1}, "embargo=-1: expected 0 or more bars"),
    ],
)
def test_values_out_of_bounds_are_refused(changes, message):
    with pytest.raises(InvalidConfig, match=message):
        WalkForwardConfig(**changes)
