"""The tables of gaps and revisions."""

import pyarrow as pa
import pytest

from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.ingest.ledger import (
    GAP_SCHEMA,
    GAPS_TABLE,
    REVISION_SCHEMA,
    REVISIONS_TABLE,
    Ledger,
)
from flash_pipeline.market import Interval

HOUR = 3_600_000
OPEN = Gap(3 * HOUR, 5 * HOUR, GapCause.EXCHANGE_GAP, 10, 20)
FILLED = Gap(7 * HOUR, 7 * HOUR, GapCause.DELISTED, 10, 30, 30)


def revision(old: float, new: float, start: int = HOUR) -> pa.Table:
    columns = {"start_time": [start]}
    for name in ("open", "high", "low", "close", "volume"):
        columns |= {f"{name}_old": [old], f"{name}_new": [new]}
    columns |= {"turnover_old": pa.nulls(1, pa.float64()), "turnover_new": [new]}
    return pa.table(columns)


def closes(ledger: Ledger) -> list[tuple[float, float, int]]:
    rows = ledger.read(REVISIONS_TABLE).to_pylist()
    return [(row["close_old"], row["close_new"], row["seen_at"]) for row in rows]


def test_nothing_recorded_makes_no_file(ledger):
    assert ledger.open_gaps() == {}
    assert ledger.read(GAPS_TABLE).schema.equals(GAP_SCHEMA)
    assert ledger.read(REVISIONS_TABLE).schema.equals(REVISION_SCHEMA)
    assert not ledger.warehouse.exists()


def test_gaps_are_read_as_they_were_recorded(ledger):
    ledger.replace_open_gaps({"BTCUSDT": [OPEN, FILLED]})
    assert ledger.open_gaps() == {"BTCUSDT": [OPEN]}
    row, filled = ledger.read(GAPS_TABLE).to_pylist()
    assert row == {
        "source": "fake",
        "symbol": "BTCUSDT",
        "interval": "60",
        "first_start": 3 * HOUR,
        "last_start": 5 * HOUR,
        "candles": 3,
        "cause": "exchange_gap",
        "found_at": 10,
        "checked_at": 20,
        "filled_at": None,
    }
    assert (filled["cause"], filled["candles"], filled["filled_at"]) == ("delisted", 1, 30)


def test_open_gaps_are_replaced_and_filled_ones_stay(ledger):
    ledger.replace_open_gaps({"BTCUSDT": [OPEN, FILLED], "ETHUSDT": [OPEN]})
    ledger.replace_open_gaps({"BTCUSDT": []})
    assert ledger.open_gaps() == {"ETHUSDT": [OPEN]}
    assert ledger.read(GAPS_TABLE)["symbol"].to_pylist() == ["BTCUSDT", "ETHUSDT"]


@pytest.mark.parametrize(
    ("source", "interval"), [("other", Interval.HOUR_1), ("fake", Interval.MIN_15)]
)
def test_sources_and_intervals_are_apart(ledger, source, interval):
    other = Ledger(ledger.warehouse, source, interval)
    ledger.replace_open_gaps({"BTCUSDT": [OPEN]})
    ledger.record_revisions("BTCUSDT", revision(1.0, 2.0), 40)
    assert other.open_gaps() == {}
    assert other.read(REVISIONS_TABLE).num_rows == 0
    other.replace_open_gaps({"BTCUSDT": []})
    other.record_revisions("BTCUSDT", revision(1.0, 2.0), 50)
    assert ledger.open_gaps() == {"BTCUSDT": [OPEN]}
    assert closes(ledger) == [(1.0, 2.0, 40)]


def test_a_revision_tells_every_value_before_and_after(ledger):
    ledger.record_revisions("BTCUSDT", revision(1.0, 2.0), 40)
    (row,) = ledger.read(REVISIONS_TABLE).to_pylist()
    assert (row["open_old"], row["open_new"], row["volume_new"]) == (1.0, 2.0, 2.0)
    assert (row["turnover_old"], row["turnover_new"]) == (None, 2.0)
    assert (row["source"], row["symbol"], row["interval"]) == ("fake", "BTCUSDT", "60")


def test_a_revision_seen_again_is_not_recorded_twice(ledger):
    for seen_at in (40, 50, 60):
        ledger.record_revisions("BTCUSDT", revision(1.0, 2.0), seen_at)
    assert closes(ledger) == [(1.0, 2.0, 40)]


def test_a_candle_that_goes_back_and_forth_is_recorded_each_time(ledger):
    for seen_at, (old, new) in enumerate([(1.0, 2.0), (2.0, 1.0), (1.0, 2.0), (1.0, 2.0)]):
        ledger.record_revisions("BTCUSDT", revision(old, new), seen_at)
    assert sorted(closes(ledger), key=lambda row: row[2]) == [
        (1.0, 2.0, 0),
        (2.0, 1.0, 1),
        (1.0, 2.0, 2),
    ]


def test_a_mark_price_has_no_volume_to_revise(ledger):
    marks = revision(1.0, 2.0).drop_columns(
        ["volume_old", "volume_new", "turnover_old", "turnover_new"]
    )
    ledger.record_revisions("BTCUSDT", marks, 40)
    ledger.record_revisions("BTCUSDT", marks, 50)
    (row,) = ledger.read(REVISIONS_TABLE).to_pylist()
    assert (row["close_new"], row["volume_new"], row["turnover_new"]) == (2.0, None, None)
