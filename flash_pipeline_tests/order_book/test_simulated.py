"""Books straight from the simulator are those of its archive."""

import io
import zipfile

import numpy as np
import pytest

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.book_archive import BookArchive, archive_lines
from flash_pipeline.exchange.simulation.market import SimulatedMarket
from flash_pipeline.market import parse_instant
from flash_pipeline.order_book import read_archive
from flash_pipeline.order_book.quality import book_problems
from flash_pipeline.order_book.simulated import simulate_book

DAY = parse_instant("2026-03-10")


@pytest.fixture(scope="module")
def flow():
    return SimulatedMarket(seed=7).order_flow("BTCUSDT")


def test_they_are_those_of_the_archive(flow, tmp_path):
    archive = BookArchive("BTCUSDT", DAY, 200)
    text = b"".join(archive_lines(flow, archive, updates=90))
    path = tmp_path / f"{archive.member}.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(archive.member, text)
    path.write_bytes(buffer.getvalue())
    tick = float(flow.instrument.tick_size)
    read = read_archive(path, levels=12, tick_size=tick)
    made = simulate_book(flow, DAY, DAY + 90_000, levels=12)
    assert np.array_equal(made.time_T, read.time_T)
    assert np.array_equal(made.mid_T, read.mid_T)
    assert np.array_equal(made.book_TLS2, read.book_TLS2)
    assert book_problems(made) == []


def test_a_slower_cadence_is_every_so_many_of_the_faster(flow):
    fast = simulate_book(flow, DAY, DAY + 60_000, levels=3)
    slow = simulate_book(flow, DAY, DAY + 60_000, levels=3, cadence_ms=5_000)
    assert np.array_equal(slow.book_TLS2, fast.book_TLS2[::5])


@pytest.mark.parametrize(
    ("start", "end", "cadence"), [(DAY, DAY, 1000), (DAY + 1, DAY + 5000, 1000), (DAY, DAY + 1, 50)]
)
def test_times_off_the_grid_are_refused(flow, start, end, cadence):
    with pytest.raises(InvalidInput, match="cannot be simulated"):
        simulate_book(flow, start, end, levels=3, cadence_ms=cadence)
