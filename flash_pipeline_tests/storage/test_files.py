import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import HomeNotWritable
from flash_pipeline.storage.files import replacing_file, replacing_folder, write_parquet

TABLE = pa.table({"n": list(range(5000)), "x": [n / 7 for n in range(5000)]})


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _fill_the_disk(path: Path) -> None:
    path.write_text("half of")
    raise OSError("disk is full")


def test_a_file_appears_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "file"
    with replacing_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert _names(path.parent) == ["file"]


def test_the_old_file_stays_when_the_block_raises(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match="disk is full"), replacing_file(path) as temporary:
        _fill_the_disk(temporary)
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["file"]


def test_the_old_file_is_whole_until_the_end_of_the_block(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with replacing_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_a_killed_process_left_is_replaced(tmp_path):
    path = tmp_path / "file"
    (tmp_path / ".tmp-file").write_text("left behind")
    with replacing_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert _names(tmp_path) == ["file"]


def test_a_folder_takes_the_place_of_the_old_one_with_nothing_of_it(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with replacing_folder(path) as temporary:
        (temporary / "new").touch()
        assert _names(path) == ["old"]
    assert _names(path) == ["new"]
    assert _names(tmp_path) == ["folder"]


def test_a_folder_that_was_not_there_is_made_for_all_to_read(tmp_path):
    path = tmp_path / "above" / "folder"
    with replacing_folder(path) as temporary:
        (temporary / "new").touch()
    assert _names(path) == ["new"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_the_old_folder_stays_when_the_block_raises(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match="disk is full"), replacing_folder(path) as temporary:
        _fill_the_disk(temporary / "new")
    assert _names(path) == ["old"]
    assert _names(tmp_path) == ["folder"]


@pytest.fixture
def killed(tmp_path):
    """Return a folder as a kill between the two renames leaves it: under its retired name."""
    for name in (".old-folder", ".tmp-folder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    return tmp_path / "folder"


def test_a_folder_retired_by_a_killed_process_comes_back_when_the_next_write_fails(killed):
    with pytest.raises(OSError, match="disk is full"), replacing_folder(killed) as temporary:
        _fill_the_disk(temporary / "new")
    assert _names(killed) == [".old-folder"]
    assert _names(killed.parent) == ["folder"]


def test_a_folder_retired_by_a_killed_process_is_read_during_the_next_write(killed):
    with replacing_folder(killed) as temporary:
        assert _names(killed) == [".old-folder"]
        assert _names(temporary) == []


def test_what_a_killed_process_left_of_a_folder_is_cleared_by_the_next_write(killed):
    with replacing_folder(killed) as temporary:
        (temporary / "new").touch()
    assert _names(killed) == ["new"]
    assert _names(killed.parent) == ["folder"]


def test_a_folder_that_was_put_in_place_is_not_undone_by_the_retired_one(killed):
    killed.mkdir()
    (killed / "newer").touch()
    with pytest.raises(OSError, match="disk is full"), replacing_folder(killed) as temporary:
        _fill_the_disk(temporary / "new")
    assert _names(killed) == ["newer"]
    assert _names(killed.parent) == ["folder"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def refuse(self, target):
        if target == path and not self.name.startswith(".old-"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"), replacing_folder(path):
        pass
    assert _names(path) == ["old"]
    assert _names(tmp_path) == ["folder"]


def test_equal_tables_make_equal_bytes(tmp_path):
    chunked = pa.concat_tables([TABLE.slice(0, 17), TABLE.slice(17, 2000), TABLE.slice(2017)])
    write_parquet(TABLE, tmp_path / "one")
    write_parquet(TABLE, tmp_path / "again")
    write_parquet(chunked, tmp_path / "chunked")
    first = (tmp_path / "one").read_bytes()
    assert (tmp_path / "again").read_bytes() == first
    assert (tmp_path / "chunked").read_bytes() == first


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_parquet(TABLE, tmp_path / "table.parquet", row_group_size=1000)
    assert pq.read_table(tmp_path / "table.parquet").equals(TABLE)
    assert pq.read_metadata(tmp_path / "table.parquet").num_row_groups == 5


def test_a_table_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(TABLE, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_parquet(TABLE, path, row_group_size="many")
    assert path.read_bytes() == before
    assert _names(tmp_path) == ["table.parquet"]


def test_a_place_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        HomeNotWritable, match=r"file/table\.parquet cannot be written: File exists"
    ):
        write_parquet(TABLE, tmp_path / "file" / "table.parquet")
