"""Shape letters: N windows, B blocks, K bars of a block, L lookback, S symbols, F features."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_pipeline.errors import InvalidConfig, NotEnoughHistory, SchemaMismatch
from flash_pipeline.windows import blocks, read_windows, write_windows

HOUR_MS = 3_600_000


@st.composite
def cuts(draw):
    """Draw a lookback, horizon, stride and number of bars that can be cut."""
    lookback = draw(st.integers(1, 12))
    horizon = draw(st.integers(1, 5))
    stride = draw(st.integers(1, lookback))
    bars = draw(st.integers(lookback + horizon, 60))
    return lookback, horizon, stride, bars


@settings(max_examples=40, deadline=None)
@given(cut=cuts(), seed=st.integers(0, 9), gap=st.integers(0, 59))
def test_every_window_is_a_slice_of_one_block_and_of_the_panel(make_panel, cut, seed, gap):
    lookback, horizon, stride, bars = cut
    panel = make_panel(bars, seed=seed, gaps=[(gap % bars, 1)])
    with TemporaryDirectory() as folder:
        frame = write_windows(
            panel,
            Path(folder) / "windows",
            lookback=lookback,
            horizon=horizon,
            stride=stride,
            synthetic=True,
        )
    assert len(frame.anchor_N) == bars - lookback + 1
    assert (frame.offset_N + lookback <= frame.x_BKSF.shape[1]).all()
    forward_TS = panel.forward_log_return(horizon).astype(np.float32)
    for n, anchor in enumerate(frame.anchor_N):
        assert anchor == panel.start_time_T[n + lookback - 1]
        np.testing.assert_array_equal(frame.window(n), panel.x_TSF[n : n + lookback])
    np.testing.assert_array_equal(frame.label_NS, forward_TS[lookback - 1 :])
    np.testing.assert_array_equal(frame.along_time(frame.x_BKSF), panel.x_TSF)
    np.testing.assert_array_equal(frame.along_time(frame.y_BKS), forward_TS)
    np.testing.assert_array_equal(frame.along_time(frame.valid_BKS), panel.valid_TS)
    np.testing.assert_array_equal(frame.start_time_T, panel.start_time_T)


@pytest.mark.parametrize("lookback", [1, 5, 8])
def test_a_batch_holds_the_newest_bars_of_each_window_symbol_by_symbol(make_frame, lookback):
    frame = make_frame(stride=5)
    index_N = np.array([0, 52, 7, 7, 13])
    expected_NLI = [frame.window(n)[-lookback:].reshape(lookback, -1) for n in index_N]
    batch_NLI = frame.batch(index_N, lookback)
    assert batch_NLI.flags.c_contiguous
    np.testing.assert_array_equal(batch_NLI, np.stack(expected_NLI))


def test_a_batch_has_the_frames_lookback_unless_told(make_frame):
    frame = make_frame()
    np.testing.assert_array_equal(frame.batch(np.array([3])), frame.batch(np.array([3]), 8))


def test_a_batch_of_no_window_is_empty(make_frame):
    assert make_frame().batch(np.array([], dtype=np.int64)).shape == (0, 8, 4)


def test_the_newest_window_ends_at_the_newest_bar_though_its_label_is_unknown(
    make_panel, make_frame
):
    panel, frame = make_panel(60), make_frame(60, horizon=24)
    assert frame.anchor_N[-1] == panel.start_time_T[-1]
    assert frame.made_at_N[-1] == panel.start_time_T[-1] + HOUR_MS
    np.testing.assert_array_equal(frame.window(len(frame.anchor_N) - 1)[-1], panel.x_TSF[-1])


def test_labels_are_nan_where_the_future_is_not_known(make_frame):
    frame = make_frame(60, horizon=7)
    assert np.isfinite(frame.label_NS[:-7]).all()
    assert np.isnan(frame.label_NS[-7:]).all()
    assert frame.known_N.tolist() == [True] * 46 + [False] * 7


def test_a_window_counts_as_known_while_one_symbol_has_a_label(make_frame):
    frame = make_frame(60, horizon=2, gaps=[(30, 0), (40,)])
    unknown = np.flatnonzero(~frame.known_N) + 7  # the bar of the anchor
    assert unknown.tolist() == [38, 40, 58, 59]


def test_a_label_ends_at_the_close_of_the_last_bar_it_uses(make_frame):
    frame = make_frame(60, horizon=3)
    assert (frame.label_end_N == frame.anchor_N + 4 * HOUR_MS).all()
    assert (frame.label_end_N == frame.made_at_N + 3 * HOUR_MS).all()


def test_stride_one_is_the_literal_layout_of_one_row_per_window(make_frame):
    frame = make_frame(60, stride=1)
    assert frame.x_BKSF.shape == (53, 8, 2, 2)
    assert frame.block_N.tolist() == list(range(53))
    assert not frame.offset_N.any()


def test_blocks_of_the_lookbacks_stride_store_every_bar_about_twice(make_panel, make_frame):
    frame = make_frame(16 * 40, lookback=16, stride=16)
    ratio = frame.x_BKSF.nbytes / make_panel(16 * 40).x_TSF.nbytes
    assert 1.8 < ratio < 2.05


def test_a_window_shares_memory_with_the_stored_blocks(make_frame):
    frame = make_frame()
    assert np.shares_memory(frame.window(3), frame.x_BKSF)
    assert not frame.x_BKSF.flags.owndata


def test_bars_beyond_the_newest_one_are_unknown(make_frame):
    frame = make_frame(60, lookback=8, stride=8)
    last_K = frame.x_BKSF[-1, :, 0, 0]
    beyond = int(np.isnan(last_K).sum())
    assert beyond == 7 * 8 - 53 > 0
    assert np.isnan(last_K[-beyond:]).all()
    assert not frame.valid_BKS[-1, -beyond:].any()


def test_plain_pyarrow_reads_the_tensors(make_frame, tmp_path):
    frame = make_frame(stride=5)
    table = pq.read_table(tmp_path / "windows" / "blocks.parquet")
    assert table.column_names == ["block_id", "first_start_time", "x", "y", "valid"]
    kind = table.schema.field("x").type
    assert isinstance(kind, pa.FixedShapeTensorType)
    assert kind.shape == [12, 2, 2]
    assert kind.value_type == pa.float32()
    x_BKSF = table["x"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(x_BKSF, frame.x_BKSF)


def test_the_index_says_where_each_window_lies(make_frame, tmp_path):
    frame = make_frame(stride=5)
    index = pq.read_table(tmp_path / "windows" / "windows.parquet").to_pydict()
    assert index["block_id"][:6] == [0, 0, 0, 0, 0, 1]
    assert index["offset"][:6] == [0, 1, 2, 3, 4, 0]
    assert index["anchor_start_time"] == frame.anchor_N.tolist()
    assert index["label_end"] == frame.label_end_N.tolist()


def test_what_was_written_is_read_again(make_frame, tmp_path):
    written, read = make_frame(gaps=[(5, 1)]), read_windows(tmp_path / "windows")
    for name in ("symbols", "features", "interval", "lookback", "horizon", "stride", "synthetic"):
        assert getattr(read, name) == getattr(written, name)
    assert read.snapshot == written.snapshot
    np.testing.assert_array_equal(read.x_BKSF, written.x_BKSF)


def test_equal_data_have_equal_snapshots_whatever_the_stride(make_frame):
    assert make_frame(stride=8).snapshot == make_frame(stride=1).snapshot


@pytest.mark.parametrize("part", ["x_TSF", "close_TS", "start_time_T"])
def test_one_changed_value_changes_the_snapshot(make_panel, tmp_path, part):
    one, other = make_panel(40), make_panel(40)
    getattr(other, part).flat[-1] += 1
    snapshots = {
        write_windows(
            panel, tmp_path / "w", lookback=8, horizon=2, stride=8, synthetic=True
        ).snapshot
        for panel in (one, other)
    }
    assert len(snapshots) == 2


@pytest.mark.parametrize("change", [{"lookback": 9}, {"horizon": 3}, {"symbols": 3}])
def test_another_cut_changes_the_snapshot(make_frame, change):
    assert make_frame().snapshot != make_frame(**change).snapshot


def test_too_few_bars_are_refused_and_what_was_stored_stays(make_frame, tmp_path):
    stored = make_frame()
    with pytest.raises(NotEnoughHistory, match=r"9 bars are too few.*need 10"):
        make_frame(9)
    assert read_windows(tmp_path / "windows").snapshot == stored.snapshot


def test_as_many_bars_as_one_window_and_its_label_are_enough(make_frame):
    frame = make_frame(10)
    assert frame.known_N.tolist() == [True, False, False]


def test_a_write_that_fails_half_way_leaves_the_old_windows(make_frame, tmp_path, monkeypatch):
    stored = make_frame()
    with monkeypatch.context() as patch:
        patch.setattr(blocks.pq, "write_table", _only_once(pq.write_table))
        with pytest.raises(OSError, match="no space left"):
            make_frame(seed=1)
    assert read_windows(tmp_path / "windows").snapshot == stored.snapshot
    assert [path.name for path in tmp_path.iterdir()] == ["windows"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lookback": 0}, "lookback=0: expected at least 1 bar"),
        ({"horizon": 0}, "horizon=0: expected at least 1 bar"),
        ({"stride": 0}, "stride=0: expected at least 1 bar"),
        ({"stride": 9}, "stride=9: expected at most the lookback, 8"),
    ],
)
def test_a_length_out_of_its_bounds_is_refused(make_frame, change, message):
    with pytest.raises(InvalidConfig, match=message):
        make_frame(**change)


def test_a_folder_without_windows_is_refused(tmp_path):
    with pytest.raises(NotEnoughHistory, match="materialize window_tensors first"):
        read_windows(tmp_path)


@pytest.mark.parametrize("name", ["blocks.parquet", "windows.parquet"])
def test_a_file_of_another_layout_is_refused(make_frame, tmp_path, name):
    make_frame()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "windows" / name)
    with pytest.raises(SchemaMismatch, match="no window tensors of this version"):
        read_windows(tmp_path / "windows")


def _only_once(write):
    calls = []

    def write_table(*arguments, **options):
        if calls:
            raise OSError("no space left on device")
        calls.append(arguments)
        write(*arguments, **options)

    return write_table
