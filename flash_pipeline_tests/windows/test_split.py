import dataclasses

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory
from flash_pipeline.windows import Split, SplitConfig, chronological_split, purged
from flash_pipeline_tests.windows.conftest import HOUR_MS, frame_of


@settings(max_examples=100, deadline=None)
@given(
    windows=st.integers(60, 150),
    unknown=st.sets(st.integers(0, 149), max_size=20),
    horizon=st.integers(1, 6),
    embargo=st.integers(0, 5),
    train=st.floats(0.4, 0.6),
    validation=st.floats(0.2, 0.3),
)
def test_no_label_reaches_the_range_after_it(windows, unknown, horizon, embargo, train, validation):
    labels_N = np.where(np.isin(np.arange(windows), list(unknown)), np.nan, 0.0)
    frame = frame_of(labels_N, horizon)
    try:
        split = chronological_split(frame, SplitConfig(train, validation, embargo))
    except NotEnoughHistory:
        reject()
    train_N, validation_N, test_N = split.train_N, split.validation_N, split.test_N
    made_at_N, label_end_N = frame.made_at_N, frame.label_end_N
    gap_ms = embargo * HOUR_MS
    assert label_end_N[train_N].max() + gap_ms <= made_at_N[validation_N].min()
    assert label_end_N[train_N].max() + gap_ms <= made_at_N[test_N].min()
    assert label_end_N[validation_N].max() + gap_ms <= made_at_N[test_N].min()
    together_N = np.concatenate([train_N, validation_N, test_N])
    assert (np.diff(together_N) > 0).all()
    assert frame.known_N[together_N].all()


def test_the_ranges_have_their_shares_less_what_is_purged():
    split = chronological_split(frame_of(np.zeros(100), 4), SplitConfig(0.6, 0.2))
    assert split.train_N.tolist() == list(range(57))
    assert split.validation_N.tolist() == list(range(60, 77))
    assert split.test_N.tolist() == list(range(80, 100))


def test_an_embargo_leaves_out_further_bars():
    split = chronological_split(frame_of(np.zeros(100), 4), SplitConfig(0.6, 0.2, embargo=5))
    assert split.train_N.tolist() == list(range(52))
    assert split.validation_N.tolist() == list(range(60, 72))
    assert split.test_N.tolist() == list(range(80, 100))


def test_windows_without_a_label_are_in_no_range():
    labels_N = np.zeros(100)
    labels_N[[3, 50]] = np.nan
    labels_N[-10:] = np.nan
    split = chronological_split(frame_of(labels_N, 1), SplitConfig())
    used = np.concatenate(list(dataclasses.astuple(split)))
    assert not {3, 50, *range(90, 100)} & set(used.tolist())
    assert split.test_N[-1] == 89


@pytest.mark.parametrize(
    ("bars", "horizon", "name"), [(20, 15, "training"), (40, 7, "validation"), (0, 1, "training")]
)
def test_a_range_that_would_be_empty_is_refused_by_name(bars, horizon, name):
    frame = frame_of(np.concatenate([np.zeros(bars), np.full(3, np.nan)]), horizon)
    with pytest.raises(NotEnoughHistory, match=rf"the {name} range is empty: {bars} labelled"):
        chronological_split(frame, SplitConfig())


def test_too_few_windows_for_a_test_range_are_refused():
    with pytest.raises(NotEnoughHistory, match="range is empty: 1 labelled"):
        chronological_split(frame_of([0.0, np.nan], 1), SplitConfig())


@pytest.mark.parametrize(
    ("train", "validation"),
    [(0.0, 0.5), (1.0, 0.1), (0.5, 0.0), (0.7, 0.3), (-0.1, 0.5), (float("nan"), 0.1)],
)
def test_shares_that_leave_a_range_empty_are_refused(train, validation):
    with pytest.raises(InvalidConfig, match=f"train={train} validation={validation}"):
        SplitConfig(train, validation)


def test_a_negative_embargo_is_refused():
    with pytest.raises(InvalidConfig, match="embargo=-1: expected 0 or more bars"):
        SplitConfig(embargo=-1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Tested are 10 to 12, whose labels are the returns of the hours (10, 16].
        ({}, [*range(7), *range(16, 30)]),
        ({"before": 2}, [*range(5), *range(16, 30)]),
        ({"after": 3}, [*range(7), *range(19, 30)]),
        ({"reach": 4}, [*range(7), *range(20, 30)]),
    ],
)
def test_windows_are_kept_from_another_range_to_both_sides(changes, expected):
    frame = frame_of(np.zeros(40), 4)
    kept_N = purged(frame, np.arange(30), np.array([10, 11, 12]), **changes)
    # 7, 8 and 9 end in (10, 16]; 13, 14 and 15 begin before 16.
    assert kept_N.tolist() == expected


def test_ranges_with_holes_are_kept_away_from_one_by_one():
    frame = frame_of(np.zeros(40), 1)
    assert purged(frame, np.arange(10), np.array([2, 7])).tolist() == [0, 1, 3, 4, 5, 6, 8, 9]


def test_nothing_to_keep_away_from_keeps_all():
    frame = frame_of(np.zeros(10), 1)
    assert purged(frame, np.arange(10), np.array([], int)).tolist() == list(range(10))


def test_scalers_see_no_bar_at_which_the_other_ranges_are_judged(make_frame):
    frame = make_frame(60, lookback=8)
    split = Split(np.array([0, 1, 2, 20, 21]), np.array([6, 7]), np.array([10, 11, 12]))
    seen_T = np.flatnonzero(split.fitting_bars(frame))
    # Window n ends at bar n + 7: 13 and 14 are validation anchors, 17 to 19 those of the test.
    assert seen_T.tolist() == [*range(13), 15, 16, *range(20, 29)]


def test_a_split_names_its_ranges_by_date():
    split = chronological_split(frame_of(np.zeros(100), 4), SplitConfig(0.6, 0.2))
    assert split.to_dict(frame_of(np.zeros(100), 4))["test"] == {
        "windows": 20,
        "from": "2024-01-04T09:00Z",
        "to": "2024-01-05T04:00Z",
        "labels_to": "2024-01-05T08:00Z",
    }
