import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.ingest.audit import audit_completeness, audit_klines, audit_month
from flash_pipeline.ingest.gaps import Gap, GapCause
from flash_pipeline.ingest.merge import within
from flash_pipeline.market import CANDLE_SCHEMA, MARK_CANDLE_SCHEMA, Interval, Month, month_range
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
JUNE = Month(2024, 6)
START = JUNE.time_range.start


COLLAPSE = {  # the last hours of a coin: a ten-thousandth of a cent, and volumes to match
    "open": 1.8e-4,
    "high": 2.4e-4,
    "low": 1e-6,
    "close": 5e-6,
    "volume": 9.1e12,
    "turnover": 9.1e12 * 3.3e-5,
}


def _candles(*changes: dict[str, float]) -> pa.Table:
    """Make one sound candle per change, an hour apart, and apply the changes."""
    sound = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 3.0, "turnover": 30.9}
    rows = [{"start_time": START + n * HOUR, **sound, **change} for n, change in enumerate(changes)]
    return pa.Table.from_pylist(rows, schema=CANDLE_SCHEMA)


def _audit(*changes: dict[str, float]) -> list[str]:
    return audit_month(_candles(*changes), JUNE, Interval.HOUR_1)


def test_sound_candles_have_no_problem():
    assert _audit({}, {}, {}) == []
    assert _audit() == []


def test_a_gap_no_trade_and_a_missing_turnover_are_no_problem():
    assert _audit({}, {"start_time": START + 9 * HOUR, "volume": 0.0, "turnover": None}) == []


@pytest.mark.parametrize("change", [{"high": 1000.0, "low": 0.01}, COLLAPSE, {"turnover": 26.99}])
def test_a_real_extreme_is_no_problem(change):
    assert _audit({}, change) == []


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
        ({"volume": float("inf")}, "1 negative or missing volumes"),
        ({"high": float("inf")}, "1 infinite prices"),
        ({"volume": 30.0}, "1 average prices (turnover / volume) outside low to high"),
        ({"turnover": -30.0}, "1 average prices (turnover / volume) outside low to high"),
    ],
)
def test_a_broken_candle_is_counted(change, problem):
    assert _audit({}, change) == [problem]


def test_every_problem_is_told_with_its_symbol_and_month(tmp_path):
    store = KlineStore(tmp_path, Interval.HOUR_1)
    store.write_month("BTCUSDT", JUNE, _candles({}), synthetic=False)
    store.write_month("ETHUSDT", JUNE, _candles({"low": -1.0}), synthetic=False)
    end = JUNE.time_range.end
    assert audit_klines(store, ["BTCUSDT", "ETHUSDT"], closed_end=end) == [
        "ETHUSDT 2024-06: 1 prices not above zero"
    ]
    assert audit_klines(store, ["ETHUSDT"], closed_end=end, months=[Month(2024, 5)]) == []


def test_a_candle_that_is_still_forming_is_a_problem():
    candles = _candles({}, {}, {})
    assert audit_month(candles, JUNE, Interval.HOUR_1, closed_end=START + 2 * HOUR) == [
        "1 candles not closed yet"
    ]


def test_candles_of_a_mark_price_have_no_volume_to_look_at():
    marks = _candles({}, {"low": 10.1}).select(MARK_CANDLE_SCHEMA.names)
    assert audit_month(marks, JUNE, Interval.HOUR_1) == ["1 opens or closes outside low to high"]


@pytest.fixture
def holed(tmp_path):
    """A store whose June has its first 5 hours, less the third."""
    store = KlineStore(tmp_path, Interval.HOUR_1)
    hours = [{"start_time": START + n * HOUR} for n in (0, 1, 3, 4)]
    store.write_month("BTCUSDT", JUNE, _candles(*hours), synthetic=False)
    return store


def test_a_hole_that_nobody_recorded_is_a_problem(holed):
    assert audit_completeness(holed, ["BTCUSDT"], {}, closed_end=START + 5 * HOUR) == [
        "BTCUSDT 2024-06: 1 candles unaccounted: 2024-06-01T02:00Z"
    ]


def test_a_hole_that_is_recorded_is_none(holed):
    gap = Gap(START + 2 * HOUR, START + 2 * HOUR, GapCause.EXCHANGE_GAP, 0, 0)
    gaps = {"BTCUSDT": [gap]}
    assert audit_completeness(holed, ["BTCUSDT"], gaps, closed_end=START + 5 * HOUR) == []
    assert audit_completeness(holed, ["BTCUSDT"], gaps, closed_end=START + 7 * HOUR) == [
        "BTCUSDT 2024-06: 2 candles unaccounted: 2024-06-01T05:00Z to 2024-06-01T06:00Z"
    ]


def test_a_month_whose_file_is_gone_lacks_all_of_its_candles(holed):
    april, end = Month(2024, 4), START + 5 * HOUR
    assert audit_completeness(holed, ["BTCUSDT"], {}, closed_end=end, months=[april]) == [
        "BTCUSDT 2024-04: 720 candles unaccounted: 2024-04-01T00:00Z to 2024-04-30T23:00Z"
    ]
    holed.write_month("BTCUSDT", april, _candles(), synthetic=False)
    found = audit_completeness(holed, ["BTCUSDT"], {}, closed_end=end)
    assert [line[8:15] for line in found] == ["2024-04", "2024-05", "2024-06"]


@pytest.mark.real_data
def test_recorded_candles_keep_every_hard_rule(real_data):
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"):
        table = pq.read_table(real_data / f"{symbol}_60.parquet", partitioning=None)
        table = table.select(CANDLE_SCHEMA.names).cast(CANDLE_SCHEMA)
        for month in month_range(Month(2021, 10), Month(2024, 6)):
            candles = within(table, month.time_range)
            assert audit_month(candles, month, Interval.HOUR_1) == [], f"{symbol} {month}"
