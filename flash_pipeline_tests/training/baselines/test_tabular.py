"""Shape letters: N windows, S symbols, K columns."""

import numpy as np
import pytest

from flash_pipeline.training.baselines.base import Inputs
from flash_pipeline.training.baselines.tabular import (
    TabularScaling,
    column_names,
    columns_of,
    sum_of_last,
)


def test_the_sum_of_the_last_values_ends_with_the_bar_itself():
    values_TS = np.arange(10.0)[:, None]
    assert sum_of_last(values_TS, np.array([4, 9]), 3).tolist() == [[2 + 3 + 4], [7 + 8 + 9]]


def test_columns_are_what_their_names_say(make_panel, cut):
    panel = make_panel(60)
    frame = cut(panel)
    columns = columns_of(frame, np.array([20]), Inputs.of(frame))[0]
    found = dict(zip(column_names(frame, Inputs.of(frame)), columns.T, strict=True))
    end = 20 + frame.lookback - 1
    returns_TS = panel.x_TSF[:, :, 0]
    np.testing.assert_allclose(found["rsi"], panel.x_TSF[end, :, -1])
    np.testing.assert_allclose(found["log_return, 2 back"], returns_TS[end - 2])
    six = returns_TS[end - 5 : end + 1].sum(axis=0)
    np.testing.assert_allclose(found["log_return, sum of 6"], six, rtol=1e-5)
    np.testing.assert_allclose(found["log_return, sum of 6, all"], [six.mean()] * 2, rtol=1e-5)


def test_no_column_reaches_beyond_the_lookback(make_panel, cut):
    frame = cut(make_panel(60))
    names = column_names(frame, Inputs.of(frame))
    assert "log_return, 6 back" in names
    assert "log_return, sum of 6" in names
    assert not [
        name for name in names if "12 back" in name or ("24" in name and "hours" not in name)
    ]


def test_no_column_sees_a_later_bar(make_panel, cut):
    clean, poisoned = make_panel(60), make_panel(60)
    poisoned.x_TSF[28:] = 1e6
    frames = [cut(panel) for panel in (clean, poisoned)]
    past_N = np.arange(21)  # the last of them ends at bar 27
    before, after = (columns_of(frame, past_N, Inputs.of(frame)) for frame in frames)
    np.testing.assert_array_equal(before, after)


def test_columns_do_not_depend_on_where_the_series_begins(make_panel, cut):
    panel = make_panel(200)
    whole = cut(panel)
    tail = cut(
        type(panel)(
            panel.symbols,
            panel.features,
            panel.interval,
            panel.start_time_T[77:],
            panel.x_TSF[77:],
            panel.close_TS[77:],
        )
    )
    last = (np.array([len(frame.anchor_N) - 1]) for frame in (whole, tail))
    first, second = (
        columns_of(frame, n, Inputs.of(frame)) for frame, n in zip((whole, tail), last, strict=True)
    )
    np.testing.assert_array_equal(first, second)


def test_the_scale_is_that_of_the_training_windows_alone(make_panel, cut, split):
    clean, poisoned = make_panel(), make_panel()
    after = int(split.train_N[-1]) + 8
    poisoned.x_TSF[after:] = 1e6
    poisoned.close_TS[after + 1 :] *= 3.0
    first, second = (
        TabularScaling.fit(frame, split, Inputs.of(frame)).to_dict()
        for frame in (cut(clean), cut(poisoned))
    )
    assert first == second


def test_labels_come_back_in_log_returns(frame, split):
    inputs = Inputs.of(frame)
    scaling = TabularScaling.from_dict(TabularScaling.fit(frame, split, inputs).to_dict())
    scaled_NS = scaling.scaled_labels(frame)[split.test_N]
    told = scaling.log_returns(frame, split.test_N, scaled_NS.reshape(-1).astype(np.float64))
    np.testing.assert_allclose(told, frame.label_NS[split.test_N], rtol=1e-5)


def test_rows_without_a_label_are_left_out(make_panel, cut):
    panel = make_panel(100)
    panel.close_TS[40, 1] = np.nan
    frame = cut(panel)
    scaling = TabularScaling.from_dict(
        {
            "columns": {
                "kind": "robust",
                "centre": np.zeros((2, len(column_names(frame, Inputs.of(frame))))).tolist(),
                "scale": np.ones((2, len(column_names(frame, Inputs.of(frame))))).tolist(),
            },
            "targets": {"kind": "rms", "std": [1.0, 1.0]},
        }
    )
    x_MK, y_M = scaling.known_rows(frame, np.arange(30, 40), Inputs.of(frame))
    assert len(x_MK) == len(y_M) == 18  # two labels of that symbol take the missing close
    assert np.isfinite(y_M).all()
    assert y_M[0] == pytest.approx(frame.label_NS[30, 0])
