import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flash_pipeline.errors import InvalidSymbol, InvalidTimeRange, SchemaMismatch
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.storage.files import write_parquet
from flash_pipeline.storage.klines import KlineStore

MAY, JUNE, JULY = Month(2024, 5), Month(2024, 6), Month(2024, 7)


def test_a_month_is_a_file_below_its_symbol(store):
    path = store.path("BTCUSDT", JUNE)
    assert path == store.folder / "symbol=BTCUSDT" / "month=2024-06.parquet"


@pytest.mark.parametrize("symbol", ["../../etc", "btcusdt", "", "BTC/USDT"])
def test_a_malformed_symbol_never_reaches_a_path(store, symbol):
    for ask in (
        lambda: store.path(symbol, JUNE),
        lambda: store.months(symbol),
        lambda: store.read_all(symbol),
    ):
        with pytest.raises(InvalidSymbol):
            ask()


def test_candles_are_read_as_they_were_written(store, candles):
    written = candles(JUNE, 5)
    store.write_month("BTCUSDT", JUNE, written, synthetic=True)
    read = store.read_month("BTCUSDT", JUNE)
    assert read.equals(written)
    assert read.schema.equals(CANDLE_SCHEMA)


def test_nothing_stored_reads_as_no_candles(store):
    for read in (
        store.read_month("BTCUSDT", JUNE),
        store.read("BTCUSDT", MAY, JULY),
        store.read_all("BTCUSDT"),
    ):
        assert read.num_rows == 0
        assert read.schema.equals(CANDLE_SCHEMA)
    assert store.months("BTCUSDT") == []
    assert store.paths(["BTCUSDT"]) == []
    assert store.synthetic() is None


def test_reading_makes_no_folder(store):
    store.read_all("BTCUSDT")
    store.require_kind(synthetic=True)
    assert not store.folder.exists()


def test_months_are_sorted_and_read_in_order(store, candles):
    for month in (JULY, MAY, JUNE):
        store.write_month("BTCUSDT", month, candles(month, 2), synthetic=False)
    assert store.months("BTCUSDT") == [MAY, JUNE, JULY]
    starts = store.read_all("BTCUSDT")["start_time"].to_pylist()
    assert starts == sorted(starts)
    assert len(starts) == 6


def test_a_range_of_months_is_read_without_the_others(store, candles):
    for month in (MAY, JUNE, JULY):
        store.write_month("BTCUSDT", month, candles(month, 2), synthetic=False)
    starts = store.read("BTCUSDT", MAY, JUNE)["start_time"].to_pylist()
    assert {Month.containing(start) for start in starts} == {MAY, JUNE}


def test_paths_are_those_of_the_asked_symbols(store, candles):
    for symbol in ("BTCUSDT", "ETHUSDT", "XRPUSDT"):
        store.write_month(symbol, JUNE, candles(JUNE, 1), synthetic=False)
    assert store.paths(["XRPUSDT", "BTCUSDT"]) == [
        store.path("XRPUSDT", JUNE),
        store.path("BTCUSDT", JUNE),
    ]


def test_an_unfinished_write_is_no_month(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False)
    (store.path("BTCUSDT", JUNE).parent / ".tmp-month=2024-07.parquet").write_bytes(b"half")
    assert store.months("BTCUSDT") == [JUNE]
    assert store.read_all("BTCUSDT").num_rows == 1


def test_a_file_of_no_month_is_refused(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False)
    path = store.path("BTCUSDT", JUNE)
    path.rename(path.with_name("month=june.parquet"))
    with pytest.raises(InvalidTimeRange, match="'june'"):
        store.months("BTCUSDT")


def test_writing_a_month_replaces_it(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 5), synthetic=False)
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 2), synthetic=False)
    assert store.read_month("BTCUSDT", JUNE).num_rows == 2


def test_the_same_candles_make_the_same_bytes(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 5), synthetic=False)
    before = store.path("BTCUSDT", JUNE).read_bytes()
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 5), synthetic=False)
    assert store.path("BTCUSDT", JUNE).read_bytes() == before


def test_candles_of_other_columns_are_not_written(store, candles):
    with pytest.raises(ValueError, match="turnover"):
        store.write_month(
            "BTCUSDT", JUNE, candles(JUNE, 1).drop_columns("turnover"), synthetic=False
        )
    assert store.months("BTCUSDT") == []


def test_a_file_of_other_columns_is_refused_with_both_lists(store):
    write_parquet(pa.table({"time": [1], "price": [1.0]}), store.path("BTCUSDT", JUNE))
    with pytest.raises(SchemaMismatch, match=r"month=2024-06.*\['time', 'price'\].*'start_time'"):
        store.read_month("BTCUSDT", JUNE)


def test_a_file_of_other_types_is_refused(store, candles):
    path = store.path("BTCUSDT", JUNE)
    floats = candles(JUNE, 1).set_column(0, "start_time", pa.array([1.0]))
    write_parquet(floats, path)
    with pytest.raises(SchemaMismatch):
        store.read_month("BTCUSDT", JUNE)


def test_candles_of_another_interval_are_refused(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False)
    other = KlineStore(store.folder, Interval.MIN_15)
    with pytest.raises(SchemaMismatch, match="interval '60', asked for '15'"):
        other.read_month("BTCUSDT", JUNE)


def test_a_folder_of_another_interval_is_refused_whatever_its_months(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False)
    other = KlineStore(store.folder, Interval.MIN_15)
    with pytest.raises(SchemaMismatch, match="interval '60', asked for '15'"):
        other.require_kind(synthetic=False)


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_folder_knows_whether_a_simulator_made_its_candles(store, candles, synthetic):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=synthetic)
    assert store.synthetic() is synthetic
    store.require_kind(synthetic=synthetic)


@pytest.mark.parametrize(
    ("stored", "message"),
    [(True, "holds simulated candles .* serves real"), (False, "holds real .* serves simulated")],
)
def test_simulated_and_real_candles_are_not_mixed(store, candles, stored, message):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=stored)
    with pytest.raises(SchemaMismatch, match=message):
        store.require_kind(synthetic=not stored)


def test_a_file_carries_the_units_of_its_columns(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=True)
    metadata = pq.read_schema(store.path("BTCUSDT", JUNE)).metadata
    assert metadata[b"volume"] == b"base coin"
    assert metadata[b"interval"] == b"60"
    assert metadata[b"synthetic"] == b"True"


def test_a_file_says_which_source_its_candles_came_from(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False, source="bybit")
    store.write_month("BTCUSDT", JULY, candles(JULY, 1), synthetic=False)
    assert store.source("BTCUSDT") == "bybit"
    assert store.source("ETHUSDT") == ""


def test_a_symbol_does_not_take_the_candles_of_a_second_source(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False, source="bybit")
    store.require_kind(synthetic=False, source="bybit", symbols=["BTCUSDT"])
    with pytest.raises(SchemaMismatch, match="of BTCUSDT from bybit, now they come from yahoo"):
        store.require_kind(synthetic=False, source="yahoo", symbols=["BTCUSDT"])


def test_two_symbols_of_one_folder_may_come_from_two_sources(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False, source="bybit")
    store.require_kind(synthetic=False, source="yahoo", symbols=["SPX"])


def test_candles_of_no_known_source_fit_any(store, candles):
    store.write_month("BTCUSDT", JUNE, candles(JUNE, 1), synthetic=False)
    store.require_kind(synthetic=False, source="yahoo", symbols=["BTCUSDT"])
