"""Changes of stored candles: found, recorded before they are stored, never twice."""

from dataclasses import replace

import pyarrow as pa
import pytest

from flash_pipeline.ingest.ledger import REVISIONS_TABLE
from flash_pipeline.ingest.merge import lay_over, revisions
from flash_pipeline.market import iso_utc, parse_instant
from flash_pipeline.storage.klines import KlineStore

NOW = "2024-06-01T10:10Z"


def _changed(candles: pa.Table, row: int, **values: float | None) -> pa.Table:
    for name, value in values.items():
        column = candles[name].to_pylist()
        column[row] = value
        index = candles.column_names.index(name)
        candles = candles.set_column(
            index, candles.schema.field(name), pa.array(column, pa.float64())
        )
    return candles


@pytest.fixture
def source(market, series):
    return market(BTCUSDT=series("2024-06-01", 48))


@pytest.fixture
def recorded(ledger):
    def recorded():
        rows = ledger.read(REVISIONS_TABLE).to_pylist()
        return [(iso_utc(r["start_time"]), r["close_old"], r["close_new"]) for r in rows]

    return recorded


def test_candles_that_come_as_they_are_stored_are_no_revision(refresh, source, ledger, recorded):
    for _ in range(2):
        done, _ = refresh(source, NOW, "2024-06", ledger=ledger)
        assert done.revisions == 0
    assert recorded() == []


def test_a_late_revision_is_stored_and_recorded_once(refresh, source, store, ledger, recorded):
    refresh(source, NOW, "2024-06", ledger=ledger)
    old = source.truth["BTCUSDT"]["close"][8].as_py()
    source.truth["BTCUSDT"] = _changed(source.truth["BTCUSDT"], 8, close=old + 0.25)
    first, _ = refresh(source, NOW, "2024-06", ledger=ledger)
    again, _ = refresh(source, NOW, "2024-06", ledger=ledger)
    assert (first.revisions, again.revisions) == (1, 0)
    assert recorded() == [("2024-06-01T08:00Z", old, old + 0.25)]
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 10))
    (row,) = ledger.read(REVISIONS_TABLE).to_pylist()
    assert row["open_old"] == row["open_new"]
    assert row["seen_at"] == parse_instant(NOW)


def test_a_revision_is_not_lost_with_an_answer_that_came_empty(refresh, source, store, ledger):
    refresh(source, NOW, "2024-06", ledger=ledger)
    old = source.truth["BTCUSDT"]["close"][8].as_py()
    source.truth["BTCUSDT"] = _changed(source.truth["BTCUSDT"], 8, close=old + 0.25)
    empty = iter([True])
    source.distort = lambda _, answer: (
        replace(answer, candles=answer.candles.slice(0, 0)) if next(empty, False) else answer
    )
    done, asked = refresh(source, NOW, "2024-06", ledger=ledger)
    assert (done.revisions, len(asked)) == (1, 2)
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 10))


def test_a_kill_between_record_and_file_neither_loses_nor_repeats_a_revision(
    refresh, source, store, ledger, recorded, monkeypatch
):
    refresh(source, NOW, "2024-06", ledger=ledger)
    old = source.truth["BTCUSDT"]["close"][8].as_py()
    source.truth["BTCUSDT"] = _changed(source.truth["BTCUSDT"], 8, close=old + 0.25)

    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(KlineStore, "write_month", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(source, NOW, "2024-06", ledger=ledger)
    assert len(recorded()) == 1
    refresh(source, NOW, "2024-06", ledger=ledger)
    assert len(recorded()) == 1
    assert store.read_all("BTCUSDT").equals(source.truth["BTCUSDT"].slice(0, 10))


def test_a_kill_before_the_record_leaves_the_file_as_it_was(
    refresh, source, store, ledger, recorded, monkeypatch
):
    refresh(source, NOW, "2024-06", ledger=ledger)
    before = store.read_all("BTCUSDT")
    old = source.truth["BTCUSDT"]["close"][8].as_py()
    source.truth["BTCUSDT"] = _changed(source.truth["BTCUSDT"], 8, close=old + 0.25)

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(ledger), "record_revisions", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(source, NOW, "2024-06", ledger=ledger)
    assert store.read_all("BTCUSDT").equals(before)
    assert recorded() == []


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [(1.0, 2.0, 1), (None, 2.0, 1), (1.0, None, 1), (None, None, 0), (1.0, 1.0, 0)],
)
def test_a_turnover_that_comes_or_goes_is_a_revision(series, old, new, count):
    whole = series("2024-06-01", 5)
    found = revisions(_changed(whole, 2, turnover=old), _changed(whole, 2, turnover=new))
    assert found.num_rows == count


def test_only_candles_of_both_sides_can_be_revised(series):
    old = series("2024-06-01", 5, absent=[1])
    new = series("2024-06-01", 7, absent=[3], level=200.0)
    hours = [iso_utc(start)[11:13] for start in revisions(old, new)["start_time"].to_pylist()]
    assert hours == ["00", "02", "04"]


def test_of_two_candles_of_one_start_the_later_wins(series):
    low, high = series("2024-06-01", 5, level=100.0), series("2024-06-01", 5, level=200.0)
    assert lay_over(low, [high.slice(2, 2)])["close"].to_pylist() == [
        *low["close"].to_pylist()[:2],
        *high["close"].to_pylist()[2:4],
        low["close"].to_pylist()[4],
    ]


def test_candles_in_any_order_become_sorted_and_unique(series):
    whole = series("2024-06-01", 20)
    shuffled = whole.take(pa.array([n * 7 % 20 for n in range(20)] + [3, 3, 19]))
    assert lay_over(whole.slice(0, 0), [shuffled]).equals(whole)
