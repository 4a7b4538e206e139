from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.errors import DataError, FileDamaged, NotEnoughHistory, SchemaMismatch
from flash_pipeline.order_book import BookGap, BookStore
from flash_pipeline.order_book.snapshots import tick_size_of
from flash_pipeline.order_book.store import DAY_MS, day_of
from flash_pipeline_tests.order_book.conftest import START, made_series


@pytest.fixture
def store(tmp_path) -> BookStore:
    return BookStore(tmp_path / "order_book")


def test_what_is_written_is_read_again_with_its_gaps(store):
    gap = BookGap("silence", START + 5, START + 9, "because")
    series = replace(made_series(50), gaps=(gap,))
    (day,) = store.write(series, synthetic=True)
    again = store.read_day("BTCUSDT", day)
    assert np.array_equal(again.book_TLS2, series.book_TLS2)
    assert np.array_equal(again.price_TLS(), series.price_TLS())
    assert again.time_T.tolist() == series.time_T.tolist()
    assert again.gaps == (gap,)


def test_days_are_files_of_their_own(store):
    series = made_series(20, start=START + DAY_MS - 10_000)
    days = store.write(series, synthetic=False)
    assert days == [day_of(START), day_of(START + DAY_MS)]
    assert [len(store.read_day("BTCUSDT", day)) for day in days] == [10, 10]
    assert len(store.read("BTCUSDT", *days)) == 20


def test_snapshots_join_those_that_are_stored_and_the_new_one_of_a_time_stays(store):
    store.write(made_series(30, seed=1), synthetic=False)
    newer = made_series(30, seed=2, start=START + 20_000)
    whole = store.with_stored(newer)
    assert len(whole) == 50
    assert np.array_equal(whole.mid_T[20:], newer.mid_T)


def test_other_levels_kinds_and_days_are_refused(store):
    store.write(made_series(5), synthetic=True)
    with pytest.raises(DataError, match=r"\[3, 4\] levels"):
        store.with_stored(made_series(5, levels=4))
    with pytest.raises(SchemaMismatch, match="simulated order books"):
        store.require_kind(synthetic=False)
    with pytest.raises(NotEnoughHistory, match="no book of BTCUSDT"):
        store.read_day("BTCUSDT", day_of(START + DAY_MS))
    with pytest.raises(DataError, match="3 levels of each side stored, asked for 9"):
        made_series(5).take_levels(9)


@pytest.mark.parametrize(
    ("prices", "tick"),
    [
        ([60000.1, 60000.3], 0.1),
        ([60000, 60010, 60035], 5),
        ([1.2e-06, 1.21e-06, 5e-7], 1e-8),
        ([7], 7),
    ],
)
def test_the_tick_size_is_the_greatest_common_step(prices, tick):
    assert tick_size_of(np.array(prices, float)) == tick


def test_a_day_that_was_cut_off_is_named(store):
    series = made_series(20)
    store.write(series, synthetic=True)
    path = store.path("BTCUSDT", day_of(START))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileDamaged, match=r"day=2026-03-10\.parquet cannot be read"):
        store.read_day("BTCUSDT", day_of(START))
