"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flash_pipeline.errors import HomeNotWritable


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and move it into place when the block succeeds.

    A reader sees the old file or the new one, never a part. When the block raises, the old file
    stays and the temporary one is removed; a killed process leaves a `.tmp-*` file that no
    reader looks at and that the next write of the same file replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder and put it in the place of `path` when the block succeeds.

    Two renames put it there, so a reader may find no folder for an instant, never a half-filled
    one. When the block raises, the old folder stays. What a killed process left is cleared by the
    next write of the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, retired = (path.with_name(f".{kind}-{path.name}") for kind in ("tmp", "old"))
    # What a killed process left: between the two renames the folder has its old name only.
    if retired.exists() and not path.exists():
        retired.rename(path)
    for leftover in (temporary, retired):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if path.exists():
            path.rename(retired)
        try:
            temporary.rename(path)
        except BaseException:
            if retired.exists():
                retired.rename(path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def write_parquet(table: pa.Table, path: Path, *, row_group_size: int | None = None) -> None:
    """Write a table as zstd-compressed Parquet, whole or not at all.

    The bytes are a function of the table alone, so equal tables make equal files.

    Raises
    ------
    HomeNotWritable
        If the file cannot be written, as on a full disk; what was there stays.
    """
    # Texts repeat, numbers hardly: a dictionary of prices takes as long to make as all the rest,
    # and the file grows by a quarter.
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    try:
        with replacing_file(path) as temporary:
            pq.write_table(
                table,
                temporary,
                compression="zstd",
                use_dictionary=texts or False,
                row_group_size=row_group_size,
            )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise HomeNotWritable(f"{path} cannot be written: {reason}") from error


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
