"""Files that grow old: what goes, what stays, and what a killed removal leaves."""

import os
import sqlite3
from contextlib import closing

from flash_pipeline.storage import retention
from flash_pipeline.storage.files import replacing_folder
from flash_pipeline.storage.retention import (
    Item,
    carry_out,
    give_back,
    leftovers,
    old_checkpoints,
    old_reports,
    remove_folder,
)

DAY_MS = 86_400_000
NOW = 1_800_000_000_000


def put(path, *, days, size=10):
    """Write a file, or a folder with one in it, of an age."""
    inner = path if path.suffix else path / "report.html"
    inner.parent.mkdir(parents=True, exist_ok=True)
    inner.write_bytes(b"x" * size)
    for each in (inner, path):
        os.utime(each, (NOW / 1000 - days * 86_400,) * 2)
    return path


def reports(folder, *, keep=1, needed=()):
    return list(old_reports(folder, before=NOW - 30 * DAY_MS, keep=keep, needed=needed))


def test_old_reports_go_but_the_newest_the_young_and_the_needed_stay(tmp_path):
    for days in (90, 60, 50, 40, 10):
        put(tmp_path / f"d{days}", days=days)
    items = reports(tmp_path, keep=2, needed={"d60"})
    assert [(item.name, item.size) for item in items] == [("d90", 10), ("d50", 10)]
    assert reports(tmp_path, keep=5) == []


def test_a_dry_run_lists_with_bytes_and_touches_nothing(tmp_path):
    put(tmp_path / "a", days=90, size=1000)
    put(tmp_path / "b", days=1)
    pruning = carry_out(reports(tmp_path), dry_run=True)
    assert (pruning.size, pruning.by_kind()) == (1000, {"report": (1, 1000)})
    assert (tmp_path / "a" / "report.html").exists()
    assert carry_out(reports(tmp_path), dry_run=False).size == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_old_checkpoints_go(tmp_path):
    put(tmp_path / "old.safetensors", days=8)
    put(tmp_path / "new.safetensors", days=1)
    put(tmp_path / "order_book" / "old.1.safetensors", days=8)
    put(tmp_path / "order_book" / "new.safetensors", days=1)
    items = old_checkpoints(tmp_path, before=NOW - 7 * DAY_MS)
    assert [item.name for item in items] == ["old.safetensors", "old.1.safetensors"]


def test_what_killed_writes_left_goes_and_what_is_being_written_stays(tmp_path):
    put(tmp_path / ".tmp-month=2024-01.parquet", days=1)
    put(tmp_path / ".tmp-windows", days=1)
    put(tmp_path / ".write-probe-1.x", days=1)
    put(tmp_path / ".tmp-month=2024-02.parquet", days=0)
    put(tmp_path / "month=2024-01.parquet", days=1)
    names = [item.name for item in leftovers([tmp_path], now=NOW)]
    assert names == [".tmp-month=2024-01.parquet", ".tmp-windows", ".write-probe-1.x"]


def test_retired_window_blocks_go_only_where_their_successor_is_in_place(tmp_path):
    put(tmp_path / ".old-windows", days=1)
    assert list(leftovers([tmp_path], now=NOW)) == []
    with replacing_folder(tmp_path / "windows"):
        assert (tmp_path / "windows").exists(), "the write puts the retired one back"
    put(tmp_path / ".old-windows", days=1)
    assert [item.name for item in leftovers([tmp_path], now=NOW)] == [".old-windows"]


def test_a_removal_killed_half_way_is_ended_by_the_next(tmp_path, monkeypatch):
    put(tmp_path / "report", days=90)
    with monkeypatch.context() as patch:
        patch.setattr("flash_pipeline.storage.retention.shutil.rmtree", lambda *_, **__: None)
        remove_folder(tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == [".trash-report"], "no reader finds it"
    os.utime(tmp_path / ".trash-report", (NOW / 1000 - 86_400,) * 2)
    (item,) = leftovers([tmp_path], now=NOW)
    item.remove()
    item.remove()
    assert list(tmp_path.iterdir()) == []


def test_one_that_cannot_be_removed_keeps_no_other():
    gone = []

    def refuse():
        raise PermissionError("no")

    items = [Item("report", "a", 1, 0, refuse), Item("report", "b", 2, 0, lambda: gone.append("b"))]
    pruning = carry_out(items, dry_run=False)
    assert gone == ["b"]
    assert pruning.size == 2
    assert [(item.name, reason) for item, reason in pruning.failed] == [
        ("a", "PermissionError: no")
    ]


def filled(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x BLOB)")
        connection.executemany("INSERT INTO t VALUES (?)", [(b"x" * 100_000,)] * 200)
        connection.commit()
        connection.execute("DELETE FROM t WHERE rowid > 5")
        connection.commit()
    return path


def test_a_database_gives_its_unused_pages_back(tmp_path):
    path = filled(tmp_path / "a.db")
    assert give_back(path) > 15_000_000
    assert path.stat().st_size < 1_000_000
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(5,)]
    assert give_back(path) == give_back(tmp_path / "none.db") == 0


def test_a_database_that_another_process_writes_is_left_for_the_next_time(tmp_path, monkeypatch):
    path, connect = filled(tmp_path / "a.db"), sqlite3.connect
    with closing(connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite3, "connect", lambda file, **_: connect(file, timeout=0.01))
        assert give_back(path) == 0


def test_a_link_goes_and_what_it_points_to_stays(tmp_path):
    target = put(tmp_path / "elsewhere" / "r", days=90)
    link = tmp_path / "reports" / "r"
    link.parent.mkdir()
    link.symlink_to(target)
    os.utime(link, (0, 0), follow_symlinks=False)
    (item,) = reports(tmp_path / "reports", keep=0)
    assert carry_out([item], dry_run=False).failed == ()
    assert (list(link.parent.iterdir()), target.exists()) == ([], True)


def test_a_folder_that_stays_is_told_with_its_reason(tmp_path, monkeypatch):
    put(tmp_path / "stuck", days=90)
    put(tmp_path / "young", days=1)

    def refuse(*_, **__):
        raise PermissionError("not permitted")

    with monkeypatch.context() as patch:
        patch.setattr("flash_pipeline.storage.retention.os.unlink", refuse)
        pruning = carry_out(reports(tmp_path), dry_run=False)
    assert (pruning.items, len(pruning.failed)) == ((), 1)
    assert "not permitted" in pruning.failed[0][1]


def test_a_dangling_link_or_a_file_that_vanished_keeps_no_other(tmp_path, monkeypatch):
    put(tmp_path / "a.safetensors", days=8)
    (tmp_path / "b.safetensors").symlink_to(tmp_path / "none")
    vanished = tmp_path / "c.safetensors"
    listed = retention._entries
    monkeypatch.setattr(retention, "_entries", lambda folder: [*listed(folder), vanished])
    items = old_checkpoints(tmp_path, before=NOW - 7 * DAY_MS)
    assert [item.name for item in items] == ["a.safetensors", "b.safetensors"]
