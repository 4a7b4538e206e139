import pyarrow as pa
import pytest

from flash_pipeline.bybit import audit_klines
from flash_pipeline.bybit.answers import parse_candles
from flash_pipeline.bybit.audit import audit_month
from flash_pipeline.market import Interval, Month
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
JUNE = Month(2024, 6)
START = JUNE.time_range.start


def _candles(*changes: dict[str, float]) -> pa.Table:
    """Make one sound candle per change, an hour apart, and apply the changes."""
    sound = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 3.0, "turnover": 30.0}
    rows = [{"start_time": START + n * HOUR, **sound, **change} for n, change in enumerate(changes)]
    schema = parse_candles([], "BTCUSDT").schema
    return pa.Table.from_pylist(rows, schema=schema)


def _audit(*changes: dict[str, float]) -> list[str]:
    return audit_month(_candles(*changes), JUNE, Interval.HOUR_1)


def test_sound_candles_have_no_problem():
    assert _audit({}, {}, {}) == []
    assert _audit() == []


def test_a_gap_no_trade_and_a_missing_turnover_are_no_problem():
    assert _audit({}, {"start_time": START + 9 * HOUR, "volume": 0.0, "turnover": None}) == []


def test_a_real_extreme_is_no_problem():
    assert _audit({"high": 1000.0, "low": 0.01}) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"start_time": START}, "1 candles out of order or twice"),
        ({"start_time": START + 1}, "1 candles off the 60 grid"),
        ({"start_time": JUNE.time_range.end}, "1 candles of another month"),
        ({"low": 0.0}, "1 prices not above zero"),
        ({"high": 10.4}, "1 opens or closes outside low to high"),
        ({"low": 10.1}, "1 opens or closes outside low to high"),
        ({"volume": -1.0}, "1 negative or missing volumes"),
        ({"volume": float("nan")}, "1 negative or missing volumes"),
    ],
)
def test_a_broken_candle_is_counted(change, problem):
    assert _audit({}, change) == [problem]


def test_every_problem_is_told_with_its_symbol_and_month(tmp_path):
    store = KlineStore(tmp_path, Interval.HOUR_1)
    store.write_month("BTCUSDT", JUNE, _candles({}), synthetic=False)
    store.write_month("ETHUSDT", JUNE, _candles({"low": -1.0}), synthetic=False)
    assert audit_klines(store, ["BTCUSDT", "ETHUSDT"]) == [
        "ETHUSDT 2024-06: 1 prices not above zero"
    ]
