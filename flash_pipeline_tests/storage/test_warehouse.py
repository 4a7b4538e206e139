import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import duckdb
import pytest

from flash_pipeline.errors import DataError, WarehouseLocked, WarehouseUnusable
from flash_pipeline.storage.warehouse import open_warehouse, transaction

HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
time.sleep(0.3)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "warehouse.duckdb"


@pytest.fixture
def hold(path) -> Iterator[Callable[[], subprocess.Popen]]:
    """Let another process hold the warehouse until it is told to let go."""
    processes = []

    def hold() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in processes:
        process.communicate("\n", timeout=20)


def _count(connection) -> int:
    return connection.execute("SELECT count(*) FROM t").fetchall()[0][0]


def _change_and_raise(connection, error) -> None:
    connection.execute("DELETE FROM t")
    connection.execute("CREATE TABLE u AS SELECT 1 AS x")
    raise error


@pytest.fixture
def table(path):
    """A warehouse with a table of one row."""
    with open_warehouse(path) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    return path


def test_a_warehouse_is_made_with_its_folder(tmp_path):
    path = tmp_path / "new" / "warehouse.duckdb"
    with open_warehouse(path):
        pass
    assert path.is_file()


def test_a_warehouse_keeps_what_was_written(table):
    with open_warehouse(table) as connection:
        assert _count(connection) == 1


def test_a_connection_is_closed_when_the_block_raises(table):
    with pytest.raises(RuntimeError, match="inside"), open_warehouse(table) as connection:
        raise RuntimeError("inside")
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        connection.execute("SELECT 1")


def test_a_read_only_connection_cannot_write(table):
    with open_warehouse(table, read_only=True) as connection:
        assert _count(connection) == 1
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("INSERT INTO t VALUES (2)")


def test_no_extension_is_ever_downloaded(path):
    with open_warehouse(path) as connection:
        setting = "SELECT current_setting('autoinstall_known_extensions')"
        assert connection.execute(setting).fetchall() == [(False,)]


def test_a_warehouse_held_by_another_process_is_named_with_its_holder(path, hold):
    holder = hold()
    with (
        pytest.raises(WarehouseLocked, match=rf"{path} is held .*PID {holder.pid}"),
        open_warehouse(path, wait_s=0.2),
    ):
        pass


def test_a_wait_ends_when_the_holder_lets_go(path, hold):
    holder = hold()
    holder.stdin.write("\n")
    holder.stdin.flush()
    with open_warehouse(path, wait_s=20) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("folder", ["missing", "padlock"])
def test_a_missing_file_is_not_taken_for_a_held_one(tmp_path, folder):
    path = tmp_path / folder / "warehouse.duckdb"
    started = time.monotonic()
    with (
        pytest.raises(DataError, match="does not exist"),
        open_warehouse(path, read_only=True, wait_s=3),
    ):
        pass
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("damage", ["foreign", "corrupt"])
def test_a_file_that_duckdb_cannot_open_is_told_with_its_path(table, damage, read_only):
    stored = table.read_bytes()
    table.write_bytes(b"no database" if damage == "foreign" else stored[:100] + bytes(9000))
    with (
        pytest.raises(WarehouseUnusable, match=rf"{table} cannot be opened: "),
        open_warehouse(table, read_only=read_only),
    ):
        pass


def test_a_transaction_keeps_what_its_block_did(table):
    with open_warehouse(table) as connection:
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (2)")
        assert _count(connection) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_transaction_undoes_all_when_its_block_raises(table, error):
    with open_warehouse(table) as connection:
        with pytest.raises(error), transaction(connection):
            _change_and_raise(connection, error)
        assert _count(connection) == 1
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("t",)]


def test_a_transaction_undoes_all_when_a_statement_fails(table):
    with open_warehouse(table) as connection:
        with pytest.raises(duckdb.CatalogException), transaction(connection):
            connection.execute("DELETE FROM t").execute("INSERT INTO nowhere VALUES (1)")
        assert _count(connection) == 1
