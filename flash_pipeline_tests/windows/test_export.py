import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.windows import export_windows


@pytest.mark.parametrize(("stride", "expected"), [(1, 193), (24, 9), (192, 2), (500, 1)])
def test_every_strideth_window_is_written_counted_from_the_newest(
    make_frame, tmp_path, stride, expected
):
    frame = make_frame(200)
    assert export_windows(frame, tmp_path / "literal.parquet", stride=stride) == expected
    anchors = pq.read_table(tmp_path / "literal.parquet")["anchor_start_time"].to_numpy()
    assert anchors.tolist() == frame.anchor_N[::-1][::stride][::-1].tolist()


@pytest.mark.parametrize("stride", [1, 7])
def test_a_row_is_the_window_and_its_label(make_frame, tmp_path, stride):
    frame = make_frame(200, gaps=[(50, 0), (60,)])
    export_windows(frame, tmp_path / "literal.parquet", stride=stride)
    table = pq.read_table(tmp_path / "literal.parquet")
    assert isinstance(table.schema.field("x").type, pa.FixedShapeTensorType)
    chosen = np.arange(len(frame.anchor_N))[::-1][::stride][::-1]
    x_NLSF = table["x"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(x_NLSF, np.stack([frame.window(n) for n in chosen]))
    y_NS = table["y"].combine_chunks().to_numpy_ndarray()
    np.testing.assert_array_equal(y_NS, frame.label_NS[chosen])


def test_rows_are_written_in_groups(make_frame, tmp_path):
    export_windows(make_frame(200), tmp_path / "literal.parquet", stride=1)
    metadata = pq.read_metadata(tmp_path / "literal.parquet")
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert groups == [64, 64, 64, 1]


def test_a_stride_below_one_is_refused(make_frame, tmp_path):
    with pytest.raises(InvalidConfig, match="stride=0: expected at least 1 bar"):
        export_windows(make_frame(), tmp_path / "literal.parquet", stride=0)
    assert not (tmp_path / "literal.parquet").exists()
