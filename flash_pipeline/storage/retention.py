"""What grows old below the home: found, listed with its bytes, and removed.

Whoever removes holds the home (`storage.lock`), so no run writes meanwhile. Each removal is safe
to repeat: a process killed half-way leaves what the next one finds again.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

_LEFTOVER_MS = 3_600_000
"""Temporary files of this age are those of a killed process."""

_TRASH = ".trash-"
_TEMPORARY = (".tmp-", ".write-probe-", _TRASH)
_RETIRED = ".old-"
_LEAST_FREE_BYTES = 8 * 2**20
_LEAST_FREE_SHARE = 0.25


@dataclass(frozen=True)
class Item:
    """Something that is old enough to go."""

    kind: str
    """What it is: `report`, `checkpoint`, `leftover`, `model version` and the like."""
    name: str
    """Which one."""
    size: int
    """Bytes on the disk; 0 where they are not known."""
    time: int
    """When it was written last, ms since the epoch."""
    remove: Callable[[], None] = field(repr=False, compare=False)
    """Removes it; nothing happens where that is done already."""


@dataclass(frozen=True)
class Pruning:
    """What a pruning did, or would do."""

    items: tuple[Item, ...]
    """Removed, or to be removed."""
    failed: tuple[tuple[Item, str], ...]
    """What could not be removed, and why."""
    dry_run: bool
    """Whether nothing was touched."""

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return sum(item.size for item in self.items)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return how many items of each kind there are, and their bytes."""
        found: dict[str, tuple[int, int]] = {}
        for item in self.items:
            count, size = found.get(item.kind, (0, 0))
            found[item.kind] = (count + 1, size + item.size)
        return found


def carry_out(items: Iterable[Item], *, dry_run: bool) -> Pruning:
    """Remove the items one by one, in their order.

    One that cannot be removed does not keep the others: it is among `Pruning.failed`.
    """
    done: list[Item] = []
    failed: list[tuple[Item, str]] = []
    for item in items:
        if not dry_run:
            try:
                item.remove()
            except Exception as error:  # noqa: BLE001 - whatever a library raises, it is told
                failed.append((item, f"{type(error).__name__}: {error}"))
                continue
        done.append(item)
    return Pruning(tuple(done), tuple(failed), dry_run)


def old_reports(
    reports: Path, *, before: int, keep: int, needed: Collection[str]
) -> Iterator[Item]:
    """Yield reports written before an instant (ms since the epoch), oldest first.

    Parameters
    ----------
    keep : int
        How many of the newest stay, however old.
    needed : collection of str
        Folders that stay, such as that of the newest contest.
    """
    folders = [path for path in _entries(reports) if path.is_dir() and path.name[0] != "."]
    times = {path: time for path in folders if (time := modified(path)) is not None}
    newest_first = sorted(times, key=lambda path: (times[path], path.name), reverse=True)
    for path in reversed(newest_first[keep:]):
        if times[path] < before and path.name not in needed:
            yield _folder_item("report", path, times[path])


def old_checkpoints(checkpoints: Path, *, before: int) -> Iterator[Item]:
    """Yield the checkpoints written before an instant: no training goes on from them any more.

    Those of the order book's and the portfolio's trainings lie in folders of their own.
    """
    found = _entries(checkpoints)
    for folder in [path for path in found if path.is_dir() and not path.is_symlink()]:
        found = [*found, *_entries(folder)]
    for path in found:
        if path.suffix == ".safetensors" and path.name[0] != ".":
            time = modified(path)
            if time is not None and time < before:
                yield _file_item("checkpoint", path, time)


def leftovers(folders: Iterable[Path], *, now: int) -> Iterator[Item]:
    """Yield what killed processes left: temporary files and folders, and retired window blocks.

    A retired folder whose successor never came is no leftover: the next write puts it back.

    Parameters
    ----------
    now : int
        Ms since the epoch; what is younger than an hour stays.
    """
    for folder in folders:
        for path in _entries(folder):
            name = path.name
            retired = name.startswith(_RETIRED) and (folder / name.removeprefix(_RETIRED)).exists()
            if not retired and not name.startswith(_TEMPORARY):
                continue
            time = modified(path)
            if time is not None and time < now - _LEFTOVER_MS:
                make = _folder_item if path.is_dir() else _file_item
                yield make("leftover", path, time)


def tree_size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder; 0 where there is none.

    A link counts as itself, not as what it points to.
    """
    if path.is_symlink() or path.is_file():
        return file_size(path)
    return sum(file_size(each) for each in path.rglob("*") if each.is_file())


def file_size(path: Path) -> int:
    """Return the bytes of a file or a link; 0 where there is none."""
    found = _lstat(path)
    return 0 if found is None else found.st_size


def modified(path: Path) -> int | None:
    """Return when a file, folder or link was written, ms since the epoch; None without it."""
    found = _lstat(path)
    return None if found is None else found.st_mtime_ns // 1_000_000


def remove_folder(path: Path) -> None:
    """Remove a folder so that no reader finds a part of it: it is renamed first.

    Of a link, the link alone goes.

    Raises
    ------
    OSError
        If anything of it stays.
    """
    trash = path.with_name(f"{_TRASH}{path.name.removeprefix(_TRASH)}")
    if path != trash and path.exists():
        remove_tree(trash)
        path.rename(trash)
    remove_tree(trash)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder with all in it; nothing happens where there is none.

    Raises
    ------
    OSError
        If anything of it stays; what else can go has gone.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)  # says why


def give_back(database: Path) -> int:
    """Shrink a sqlite file by the pages that it does not use any more.

    Only where they are a quarter of it and 8 MiB or more, since the file is written anew. Where
    another process is at it, that waits for the next time.

    Returns
    -------
    int
        Bytes that the disk has back.
    """
    if not database.is_file():
        return 0
    before = database.stat().st_size
    try:
        with closing(sqlite3.connect(database, timeout=5)) as connection:
            ((pages,),) = connection.execute("PRAGMA freelist_count").fetchall()
            ((size,),) = connection.execute("PRAGMA page_size").fetchall()
            if pages * size < max(_LEAST_FREE_BYTES, _LEAST_FREE_SHARE * before):
                return 0
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError:  # locked
        return 0
    return max(0, before - database.stat().st_size)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # another process was faster
        return None


def _folder_item(kind: str, path: Path, time: int) -> Item:
    return Item(kind, path.name, tree_size(path), time, lambda: remove_folder(path))


def _file_item(kind: str, path: Path, time: int) -> Item:
    return Item(kind, path.name, tree_size(path), time, lambda: path.unlink(missing_ok=True))
