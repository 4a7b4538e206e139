import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flash_pipeline.archives import find_files
from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import DataError, SchemaMismatch
from flash_pipeline.exchange import Clock, ReplayedMarket, embedded_exchange
from flash_pipeline.ingest import refresh_klines
from flash_pipeline.ingest.importing import import_files
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore

HOUR = Interval.HOUR_1
LATER = parse_instant("2026-01-01")


def candles_of(first, count, *, level=100.0, turnover=True, absent=()):
    """Hourly candles that are a function of the time alone."""
    start = parse_instant(first)
    rows = []
    for time in (start + n * HOUR.milliseconds for n in range(count) if n not in set(absent)):
        price = level + time // HOUR.milliseconds * 7919 % 997 / 10
        value = 1.5 * price if turnover else None
        rows.append([time, price, price + 2, price - 2, price + 1, 1.5, value])
    named = [dict(zip(CANDLE_SCHEMA.names, row, strict=True)) for row in rows]
    return pa.Table.from_pylist(named, CANDLE_SCHEMA)


def and_newest(table):
    """Append the candle of the next hour, as it may be while it forms."""
    row = table.to_pylist()[-1]
    row = {**row, "start_time": row["start_time"] + HOUR.milliseconds}
    return pa.concat_tables([table, pa.Table.from_pylist([row], table.schema)])


@pytest.fixture
def store(tmp_path):
    return KlineStore(tmp_path / "klines", HOUR)


@pytest.fixture
def bring(tmp_path, store):
    """Import recordings, given by symbol, and return what was done by symbol.

    Each recording has one candle more than given: the newest, which is never imported.
    """

    def bring(into=store, now=LATER, **tables):
        folder = tmp_path / "recordings"
        folder.mkdir(exist_ok=True)
        for symbol, table in tables.items():
            pq.write_table(and_newest(table), folder / f"{symbol}_60.parquet")
        done = {each.symbol: each for each in import_files(find_files([folder]), into, now=now)}
        for path in folder.iterdir():
            path.unlink()
        return done

    return bring


def photograph(store):
    return {
        str(path.relative_to(store.folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(store.folder.rglob("*.parquet"))
    }


def test_candles_land_in_the_files_of_their_months(store, bring):
    table = candles_of("2024-05-31T20:00", 48)
    done = bring(BTCUSDT=table)["BTCUSDT"]
    assert (done.files, done.candles, done.added, done.months_written) == (1, 48, 48, 2)
    assert store.months("BTCUSDT") == [Month(2024, 5), Month(2024, 6)]
    assert store.read_month("BTCUSDT", Month(2024, 5)).num_rows == 4
    assert store.read_all("BTCUSDT").equals(table)
    assert store.synthetic() is False


def test_an_import_again_writes_nothing(store, bring):
    bring(BTCUSDT=candles_of("2024-06-01", 48))
    before = photograph(store)
    done = bring(BTCUSDT=candles_of("2024-06-01", 48))["BTCUSDT"]
    assert (done.added, done.differing, done.months_written) == (0, 0, 0)
    assert photograph(store) == before


def test_only_what_is_missing_is_added(store, bring):
    whole = candles_of("2024-06-01", 48)
    store.write_month(
        *("BTCUSDT", Month(2024, 6), candles_of("2024-06-01", 48, absent=range(10, 15))),
        synthetic=False,
    )
    assert bring(BTCUSDT=whole)["BTCUSDT"].added == 5
    assert store.read_all("BTCUSDT").equals(whole)


def test_a_stored_candle_wins_and_the_difference_is_told(store, bring):
    stored = candles_of("2024-06-01", 30)
    store.write_month("BTCUSDT", Month(2024, 6), stored, synthetic=False)
    rows = candles_of("2024-06-01", 48).to_pylist()
    rows[3]["close"] += 0.5
    rows[7]["volume"] += 1
    done = bring(BTCUSDT=pa.Table.from_pylist(rows, CANDLE_SCHEMA))["BTCUSDT"]
    assert (done.added, done.differing) == (18, 2)
    was = stored["close"][3].as_py()
    assert done.first_difference == (f"2024-06-01T03:00Z close {was} stored, {was + 0.5} imported")
    assert store.read_all("BTCUSDT").slice(0, 30).equals(stored)


def test_an_unknown_turnover_is_no_difference(store, bring):
    stored = candles_of("2024-06-01", 30)
    store.write_month("BTCUSDT", Month(2024, 6), stored, synthetic=False)
    done = bring(BTCUSDT=candles_of("2024-06-01", 48, turnover=False))["BTCUSDT"]
    assert (done.added, done.differing) == (18, 0)
    assert store.read_all("BTCUSDT")["turnover"].null_count == 18


def test_the_last_digits_of_a_volume_are_no_difference(store, bring):
    stored = candles_of("2024-06-01", 30)
    noisy = pc.multiply(stored["volume"], 1 + 1e-13)
    store.write_month("BTCUSDT", Month(2024, 6), stored, synthetic=False)
    done = bring(BTCUSDT=stored.set_column(5, CANDLE_SCHEMA.field("volume"), noisy))["BTCUSDT"]
    assert done.differing == 0


def test_candles_of_another_market_are_refused_whole(store, bring):
    store.write_month("BTCUSDT", Month(2024, 6), candles_of("2024-06-01", 60), synthetic=False)
    before = photograph(store)
    words = r"BTCUSDT: 60 of 60 candles differ .* 2024-06-01T00:00Z open .*another market or time"
    with pytest.raises(DataError, match=words):
        bring(BTCUSDT=candles_of("2024-05-01", 24 * 61, level=101.0))
    assert photograph(store) == before


def test_a_candle_that_has_not_closed_is_left_out(store, bring):
    now = parse_instant("2024-06-01T10:59:59")
    done = bring(BTCUSDT=candles_of("2024-06-01", 12), now=now)["BTCUSDT"]
    assert (done.candles, done.added, done.unclosed) == (10, 10, 2)


def test_a_clock_before_all_candles_imports_none(store, bring):
    done = bring(BTCUSDT=candles_of("2024-06-01", 12), now=0)["BTCUSDT"]
    assert (done.added, done.unclosed, done.span) == (0, 12, None)
    assert not store.folder.exists()


def test_each_symbol_is_imported_and_told_on_its_own(store, bring):
    done = bring(ETHUSDT=candles_of("2024-06-01", 5), BTCUSDT=candles_of("2024-06-01", 7))
    assert {symbol: each.added for symbol, each in done.items()} == {"BTCUSDT": 7, "ETHUSDT": 5}
    assert list(done) == ["BTCUSDT", "ETHUSDT"]


def test_real_candles_do_not_go_beside_simulated_ones(store, bring):
    store.write_month("ETHUSDT", Month(2024, 6), candles_of("2024-06-01", 5), synthetic=True)
    with pytest.raises(SchemaMismatch, match=r"holds simulated candles: .*FLASH_PIPELINE_HOME"):
        bring(BTCUSDT=candles_of("2024-06-01", 5))
    assert store.months("BTCUSDT") == []


def test_a_store_of_another_interval_is_refused(tmp_path, bring):
    days = KlineStore(tmp_path / "klines", Interval.DAY_1)
    days.write_month("BTCUSDT", Month(2024, 6), candles_of("2024-06-01", 1), synthetic=False)
    with pytest.raises(SchemaMismatch, match="interval 'D', asked for '60'"):
        bring(BTCUSDT=candles_of("2024-06-01", 5))


def test_a_bad_file_of_a_symbol_leaves_that_symbol_as_it_was(tmp_path, store):
    pq.write_table(candles_of("2024-06-01", 5), tmp_path / "BTCUSDT_60.parquet")
    (tmp_path / "BTCUSDT_15.csv").write_text("start_time,open,high,low,close,volume\n1,2,3,4,5,6\n")
    with pytest.raises(DataError, match=r"BTCUSDT_15\.csv row 2"):
        list(import_files(find_files([tmp_path]), store, now=LATER))
    assert not store.folder.exists()


@pytest.mark.parametrize("hole", [range(10), range(200, 260), range(700, 720)])
def test_a_refresh_after_an_import_fills_what_the_files_lack(tmp_path, store, bring, hole):
    """Files with a hole, then the exchange: the same store as from the exchange alone."""
    june, now = candles_of("2024-06-01", 720), parse_instant("2024-07-01T00:30")
    folder = tmp_path / "replay"
    folder.mkdir()
    pq.write_table(june, folder / "BTCUSDT_60.parquet")
    bring(BTCUSDT=candles_of("2024-06-01", 720, absent=hole))
    market, clock = ReplayedMarket(folder), Clock(now, speed=0)
    with embedded_exchange(market=market, clock=clock) as url, BybitClient(url) as client:
        done = refresh_klines(client, store, ["BTCUSDT"], Month(2024, 6), Month(2024, 6))
    assert store.read_all("BTCUSDT").equals(june)
    assert (done.missing, done.revisions) == (0, 0)
    assert done.requests == 1


def test_a_candle_that_was_forming_when_it_was_recorded_is_the_exchanges_to_give(store, bring):
    done = bring(BTCUSDT=candles_of("2024-06-01", 5))["BTCUSDT"]
    assert (done.added, done.unproven) == (5, 1)
    newest = store.newest_start("BTCUSDT")
    assert newest == parse_instant("2024-06-01T04:00")


def test_a_recording_goes_beside_candles_of_any_source_and_keeps_its_name(store, bring):
    month, table = Month(2024, 6), candles_of("2024-06-01", 5)
    store.write_month("SPX", month, table, synthetic=False, source="yahoo")
    assert bring(SPX=candles_of("2024-06-01", 9))["SPX"].added == 4
    assert store.source("SPX") == "yahoo"


def test_the_archive_goes_beside_candles_of_its_own_exchange_only(tmp_path, store):
    name = tmp_path / "BTCUSDT_60_2024-06-01_2024-06-30.csv"
    name.write_text("2024.06.01 03:00,100,102,98,101,1.5\n")
    list(import_files(find_files([name]), store, now=LATER))
    assert store.source("BTCUSDT") == "bybit"
    other = KlineStore(tmp_path / "other", HOUR)
    table = candles_of("2024-06-01", 5)
    other.write_month("BTCUSDT", Month(2024, 6), table, synthetic=False, source="yahoo")
    with pytest.raises(SchemaMismatch, match="BTCUSDT from yahoo, now they come from bybit"):
        list(import_files(find_files([name]), other, now=LATER))


@pytest.mark.real_data
def test_recorded_candles_are_stored_to_the_last_digit(real_data, store):
    files = [file for file in find_files([real_data]) if file.symbol == "BTCUSDT"]
    (done,) = import_files(files, store, now=LATER)
    assert (done.added, done.unproven, done.months_written) == (23_759, 1, 33)
    recorded = pq.read_table(real_data / "BTCUSDT_60.parquet").select(CANDLE_SCHEMA.names)
    recorded = recorded.slice(0, 23_759)
    assert store.read_all("BTCUSDT").equals(recorded.cast(CANDLE_SCHEMA))
