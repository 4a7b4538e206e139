"""Which candles are worth a person's look, and which extremes are just real."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.ingest import doubt_klines
from flash_pipeline.ingest.merge import within
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, month_range
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
JUNE = Month(2024, 6)
BOTH = ["BTCUSDT", "ETHUSDT"]


def walk(seed: int, **changes: dict[int, float]) -> pa.Table:
    """Make 200 hours that move by half a percent, then multiply values of some hours."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, 200)))
    open_ = np.append(100.0, close[:-1])
    columns = {
        "start_time": JUNE.time_range.start + np.arange(200) * HOUR,
        "open": open_,
        "high": np.maximum(open_, close) * 1.001,
        "low": np.minimum(open_, close) * 0.999,
        "close": close,
        "volume": rng.lognormal(size=200),
    }
    for name, factors in changes.items():
        for hour, factor in factors.items():
            columns[name][hour] *= factor
    columns["high"] = np.maximum.reduce([columns[n] for n in ("open", "high", "close")])
    columns["low"] = np.minimum.reduce([columns[n] for n in ("open", "low", "close")])
    columns["turnover"] = columns["volume"] * close
    return pa.table(columns, schema=CANDLE_SCHEMA)


@pytest.fixture
def doubts(tmp_path):
    def doubts(bitcoin: pa.Table, ether: pa.Table) -> list[str]:
        store = KlineStore(tmp_path, Interval.HOUR_1)
        for symbol, candles in zip(BOTH, (bitcoin, ether), strict=True):
            store.write_month(symbol, JUNE, candles, synthetic=False)
        return doubt_klines(store, BOTH, [JUNE])

    return doubts


def crash(seed: int, size: float) -> pa.Table:
    """Fall by a share within an hour, for good."""
    fall, after = (dict.fromkeys(range(first, 200), 1 - size) for first in (100, 101))
    return walk(seed, close=fall, open=after, high=fall, low=fall)


def test_a_market_as_usual_raises_no_doubt(doubts):
    assert doubts(walk(1), walk(2)) == []


def test_a_fall_by_half_that_stays_is_real(doubts):
    assert doubts(crash(1, 0.56), walk(2)) == []


def test_a_spike_that_every_symbol_shares_is_real(doubts):
    assert doubts(walk(1, low={100: 0.44}), walk(2, low={100: 0.6})) == []


@pytest.mark.parametrize("change", [{"close": {100: 10.0}}, {"close": {100: 0.1}}])
def test_a_close_far_off_that_no_other_symbol_shares_is_doubted(doubts, change):
    found = doubts(walk(1, **change), walk(2))
    assert found == [
        "BTCUSDT: 1 opens far from the close before: 2024-06-05T05:00Z",
        "BTCUSDT: 1 moves that turned back at once, in this symbol alone: 2024-06-05T04:00Z",
    ]


@pytest.mark.parametrize("change", [{"high": {100: 1.5}}, {"low": {100: 0.6}}])
def test_a_wick_far_off_that_no_other_symbol_shares_is_doubted(doubts, change):
    found = doubts(walk(1, **change), walk(2))
    assert found == [
        "BTCUSDT: 1 moves that turned back at once, in this symbol alone: 2024-06-05T04:00Z"
    ]


def test_a_wick_the_other_way_is_not_shared(doubts):
    found = doubts(walk(1, high={100: 1.5}), walk(2, low={100: 0.6}))
    assert [line[:7] for line in found] == BOTH


def test_an_open_off_the_close_before_by_a_spread_is_usual(doubts):
    assert doubts(walk(1, open={100: 1.004}), walk(2)) == []
    assert doubts(walk(1, open={100: 1.2}), walk(2)) == [
        "BTCUSDT: 1 opens far from the close before: 2024-06-05T04:00Z"
    ]


def test_a_gap_is_no_jump(doubts):
    higher = dict.fromkeys(range(100, 200), 2.0)
    far = walk(3, **dict.fromkeys(CANDLE_SCHEMA.names[1:5], higher))
    halves = pa.concat_tables([far.slice(0, 100), far.slice(105)])
    assert doubts(halves, walk(2)) == []


def test_a_first_candle_with_next_to_no_volume_is_doubted(doubts):
    assert doubts(walk(1, volume={0: 1e-6}), walk(2)) == [
        "BTCUSDT: 1 first candles with next to no volume: 2024-06-01T00:00Z"
    ]


def test_prices_that_the_hard_checks_refuse_break_nothing(doubts):
    assert doubts(walk(1, close={100: 0.0}), walk(2, low={50: -1.0}))


def test_months_that_are_not_stored_raise_no_doubt(tmp_path):
    store = KlineStore(tmp_path, Interval.HOUR_1)
    assert doubt_klines(store, BOTH, [JUNE]) == []


@pytest.mark.real_data
def test_the_crashes_of_three_real_years_raise_no_doubt(tmp_path, real_data):
    store = KlineStore(tmp_path, Interval.HOUR_1)
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"]
    months = list(month_range(Month(2021, 10), Month(2024, 6)))
    for symbol in symbols:
        table = pq.read_table(real_data / f"{symbol}_60.parquet", partitioning=None)
        table = table.select(CANDLE_SCHEMA.names).cast(CANDLE_SCHEMA)
        for month in months:
            store.write_month(symbol, month, within(table, month.time_range), synthetic=False)
    assert doubt_klines(store, symbols, months) == []
