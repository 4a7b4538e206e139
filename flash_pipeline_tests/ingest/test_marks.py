"""The mark price's candles go the way of all candles, into files of their own."""

import pyarrow.compute as pc
import pytest

from flash_pipeline.ingest import Ledger, MarkPrices, audit_klines, refresh_klines
from flash_pipeline.ingest.ledger import GAPS_TABLE
from flash_pipeline.market import (
    MARK_CANDLE_SCHEMA,
    CandleAnswer,
    Interval,
    Month,
    parse_instant,
)
from flash_pipeline.storage.klines import KlineStore

JUNE = Month(2024, 6)


@pytest.fixture
def source(market, series):
    """A source whose mark price lacks the fifth hour."""
    trades = market(BTCUSDT=series("2024-06-01", 48))
    trades.now_ms = parse_instant("2024-06-02T00:30Z")

    def mark_klines(symbol, interval, window):
        answer = trades.candles(symbol, interval, window)
        rows = answer.candles.select(MARK_CANDLE_SCHEMA.names)
        absent = pc.equal(rows["start_time"], parse_instant("2024-06-01T04:00Z"))
        return CandleAnswer(rows.filter(pc.invert(absent)), answer.as_of)

    trades.mark_klines = mark_klines
    return trades


@pytest.fixture
def marks(tmp_path):
    return KlineStore(tmp_path / "mark_klines", Interval.HOUR_1, MARK_CANDLE_SCHEMA)


def test_candles_of_the_mark_price_are_stored_without_volume(source, marks):
    done = refresh_klines(MarkPrices(source), marks, ["BTCUSDT"], JUNE, JUNE)
    held = marks.read_all("BTCUSDT")
    assert held.schema.equals(MARK_CANDLE_SCHEMA)
    assert (done.rows, done.missing_by_cause) == (23, {"exchange_gap": 1})
    assert held["close"].to_pylist()[:3] == source.truth["BTCUSDT"]["close"].to_pylist()[:3]
    assert audit_klines(marks, ["BTCUSDT"], closed_end=source.now_ms) == []


def test_gaps_of_the_mark_price_are_apart_from_those_of_the_trades(source, marks, ledger):
    prices = MarkPrices(source)
    own = Ledger(ledger.warehouse, prices.name, Interval.HOUR_1)
    refresh_klines(prices, marks, ["BTCUSDT"], JUNE, JUNE, ledger=own)
    assert own.read(GAPS_TABLE)["source"].to_pylist() == ["fake mark price"]
    assert ledger.open_gaps() == {}


def test_a_mark_price_that_nobody_has_is_empty_and_no_error(source, marks):
    source.truth = {"BTCUSDT": source.truth["BTCUSDT"].slice(0, 0)}
    done = refresh_klines(MarkPrices(source), marks, ["BTCUSDT"], JUNE, JUNE, require_candles=False)
    assert (done.rows, done.files_written) == (0, 0)
