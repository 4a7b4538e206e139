"""Connections to the DuckDB warehouse: short-lived, closed whatever happens.

DuckDB lets one process at a time open a file that anyone writes, so a connection is held for a
single piece of work and a process that finds the file taken waits for a while.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flash_pipeline.errors import DataError, WarehouseLocked, WarehouseUnusable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_PAUSE_S = 0.1


@contextmanager
def open_warehouse(
    path: Path, *, read_only: bool = False, wait_s: float = 60.0
) -> "Iterator[DuckDBPyConnection]":
    """Open the warehouse for the length of the block.

    Parameters
    ----------
    path : Path
        DuckDB file; created unless `read_only`.
    read_only : bool
        Open without the right to write. The file must exist.
    wait_s : float
        Seconds to wait for another process that holds the file.

    Raises
    ------
    DataError
        If it is to be read and does not exist.
    WarehouseLocked
        If the file is still held after `wait_s`; the message names the holder.
    WarehouseUnusable
        If it cannot be opened, as one that was cut off or that this user may not read.
    """
    if read_only and not path.is_file():
        raise DataError(f"{path} does not exist: materialize the features first")
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path, read_only=read_only, deadline=time.monotonic() + wait_s)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: "DuckDBPyConnection") -> Iterator[None]:
    """Commit what the block did, or undo all of it when the block raises."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def has_table(connection: "DuckDBPyConnection", name: str) -> bool:
    """Say whether the warehouse has a table of that name."""
    found = connection.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_name = ?", [name]
    ).fetchall()
    return bool(found[0][0])


def _connect(path: Path, *, read_only: bool, deadline: float) -> "DuckDBPyConnection":
    # Here and not above: training reads Parquet only, also on machines without DuckDB.
    import duckdb

    # Extensions cannot be downloaded on every machine, and nothing here needs one.
    while True:
        try:
            return duckdb.connect(
                str(path), read_only=read_only, config={"autoinstall_known_extensions": "false"}
            )
        except duckdb.Error as error:
            if "could not set lock" not in str(error).lower():  # a path may hold the word too
                raise WarehouseUnusable(f"{path} cannot be opened: {error}") from error
            if time.monotonic() >= deadline:
                raise WarehouseLocked(f"{path} is held by another process: {error}") from error
        time.sleep(_PAUSE_S)
