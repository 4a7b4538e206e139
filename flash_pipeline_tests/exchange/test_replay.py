import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from flash_pipeline.errors import (
    DataError,
    InvalidInput,
    InvalidInterval,
    InvalidSymbol,
    SchemaMismatch,
)
from flash_pipeline.exchange import Clock, ReplayedMarket, embedded_exchange
from flash_pipeline.exchange.source import CandleRequest
from flash_pipeline.market import Interval, parse_instant

HOUR = 3_600_000
START = parse_instant("2024-06-01")
LATER = START + 1000 * HOUR


@pytest.fixture
def folder(tmp_path, recorded):
    pq.write_table(recorded, tmp_path / "BTCUSDT_60.parquet")
    funding = {
        "funding_time": [START, START + 8 * HOUR + 6],
        "funding_rate": [0.0001, -1.5e-06],
    }
    pq.write_table(pa.table(funding), tmp_path / "BTCUSDT_funding.parquet")
    return tmp_path


def _ask(market, now, path, **parameters):
    with embedded_exchange(market=market, clock=Clock(now, speed=0)) as url:
        response = requests.get(f"{url}/v5/market/{path}", params=parameters, timeout=10)
    assert response.headers["X-Flash-Pipeline-Market"] == "replay"
    return response.json()


def _candles(folder, interval, now=LATER, limit=1000):
    request = CandleRequest("BTCUSDT", interval, 0, now, limit)
    return ReplayedMarket(folder).candles(request, now)


def test_every_digit_survives_the_round_trip(folder, recorded):
    body = _ask(ReplayedMarket(folder), LATER, "kline", symbol="BTCUSDT", interval="60")
    served = [
        [int(row[0]), *(float(value) if value else None for value in row[1:])]
        for row in reversed(body["result"]["list"])
    ]
    assert served == [list(row.values()) for row in recorded.to_pylist()]


def test_a_missing_turnover_is_served_empty(folder):
    body = _ask(ReplayedMarket(folder), LATER, "kline", symbol="BTCUSDT", interval="60")
    assert [row[6] == "" for row in body["result"]["list"]] == [False, False, False, True, False]


def test_nothing_after_the_clock_is_served(folder):
    assert _candles(folder, Interval.HOUR_1, START + HOUR + 1).start_time.tolist() == [
        START,
        START + HOUR,
    ]
    assert len(_candles(folder, Interval.HOUR_1, START - 1)) == 0


def test_the_candle_under_way_is_a_part_of_the_final_one(folder, recorded):
    forming = _candles(folder, Interval.HOUR_1, START + HOUR // 4)
    final = recorded.to_pylist()[0]
    assert forming.open == final["open"]
    assert forming.volume < final["volume"]
    assert forming.high < final["high"]


def test_a_closed_candle_is_final(folder, recorded):
    closed = _candles(folder, Interval.HOUR_1, START + HOUR)[:1]
    assert [column.item() for column in closed.columns()] == list(recorded.to_pylist()[0].values())


def test_coarser_candles_are_made_of_the_recorded_ones(folder, recorded):
    first, second = (part.item() for part in _candles(folder, Interval.HOUR_4).high)
    assert (first, second) == (67040.4, 0.5)
    assert _candles(folder, Interval.DAY_1).close.tolist() == [0.4]


def test_a_coarse_candle_under_way_ends_with_the_fine_one_under_way(folder):
    forming = _candles(folder, Interval.HOUR_4, START + HOUR + HOUR // 2)
    assert 341.89799999 < forming.volume.item() < 341.89799999 + 120.5


def test_the_newest_rows_are_given_where_candles_are_absent(folder, recorded):
    pq.write_table(recorded.take([0, 1, 4]), folder / "BTCUSDT_60.parquet")
    starts = _candles(folder, Interval.HOUR_1, limit=2).start_time
    assert starts.tolist() == [START + HOUR, START + 4 * HOUR]


def test_finer_candles_than_recorded_are_refused(folder):
    body = _ask(ReplayedMarket(folder), LATER, "kline", symbol="BTCUSDT", interval="30")
    assert body["retCode"] == 10001
    assert "interval '30'" in body["retMsg"]


def test_an_unrecorded_symbol_is_refused(folder):
    body = _ask(ReplayedMarket(folder), LATER, "kline", symbol="ETHUSDT", interval="60")
    assert body["retCode"] == 10001
    assert "symbol 'ETHUSDT'" in body["retMsg"]


def test_funding_is_served_to_the_digit_and_only_what_was_settled(folder):
    asked = {"path": "funding/history", "category": "linear", "symbol": "BTCUSDT"}
    market = ReplayedMarket(folder)
    rows = _ask(market, LATER, **asked)["result"]["list"]
    assert [(row["fundingRateTimestamp"], row["fundingRate"]) for row in rows] == [
        (str(START + 8 * HOUR + 6), "-0.0000015"),
        (str(START), "0.0001"),
    ]
    assert len(_ask(market, START + HOUR, **asked)["result"]["list"]) == 1


def test_a_symbol_without_a_funding_file_has_no_settlements(folder):
    (folder / "BTCUSDT_funding.parquet").unlink()
    assert ReplayedMarket(folder).funding("BTCUSDT", 0, LATER, 200, LATER) == []


def test_instruments_are_those_whose_first_candle_has_begun(folder):
    asked = {"path": "instruments-info", "category": "linear"}
    (bitcoin,) = _ask(ReplayedMarket(folder), START, **asked)["result"]["list"]
    assert (bitcoin["symbol"], bitcoin["launchTime"]) == ("BTCUSDT", str(START))
    assert _ask(ReplayedMarket(folder), START - 1, **asked)["result"]["list"] == []


def test_mark_prices_were_not_recorded(folder):
    asked = {"path": "mark-price-kline", "symbol": "BTCUSDT", "interval": "60"}
    assert _ask(ReplayedMarket(folder), LATER, **asked)["result"]["list"] == []


def test_a_ticker_has_only_what_was_recorded(folder):
    (ticker,) = _ask(ReplayedMarket(folder), LATER, "tickers", category="linear")["result"]["list"]
    assert (ticker["lastPrice"], ticker["fundingRate"]) == ("0.4", "-0.0000015")
    unknown = ("markPrice", "indexPrice", "openInterest", "openInterestValue")
    touch = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")
    assert [ticker[name] for name in (*unknown, *touch)] == [""] * 8


def test_a_ticker_without_a_funding_file_knows_no_settlement(folder):
    (folder / "BTCUSDT_funding.parquet").unlink()
    (ticker,) = _ask(ReplayedMarket(folder), LATER, "tickers", category="linear")["result"]["list"]
    assert (ticker["fundingRate"], ticker["nextFundingTime"]) == ("", "")


def test_a_book_was_not_recorded(folder):
    asked = {"path": "orderbook", "category": "linear", "symbol": "BTCUSDT"}
    book = _ask(ReplayedMarket(folder), LATER, **asked)["result"]
    assert (book["b"], book["a"]) == ([], [])


def test_last_price_is_the_newest_close(folder):
    market = ReplayedMarket(folder)
    assert market.last_price("BTCUSDT", LATER) == 0.4
    assert market.last_price("BTCUSDT", START - 1) is None


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("btcusdt_60.parquet", InvalidSymbol, "btcusdt_60.parquet is misnamed"),
        ("BTCUSDT_61.parquet", InvalidInterval, "BTCUSDT_61.parquet is misnamed"),
    ],
)
def test_a_misnamed_file_is_refused(folder, recorded, name, error, message):
    pq.write_table(recorded, folder / name)
    with pytest.raises(error, match=message):
        ReplayedMarket(folder)


def test_files_of_other_shapes_of_name_are_left_alone(folder):
    (folder / "binance_BTCUSDT_funding.parquet").write_bytes(b"not ours")
    (folder / "README.md").write_text("notes")
    assert list(ReplayedMarket(folder).instruments) == ["BTCUSDT"]


def test_a_folder_without_candles_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="holds no candles"):
        ReplayedMarket(tmp_path)


def test_a_file_without_a_column_is_refused(folder, recorded):
    pq.write_table(recorded.drop_columns("volume"), folder / "BTCUSDT_60.parquet")
    with pytest.raises(SchemaMismatch, match="volume"):
        ReplayedMarket(folder)


def test_a_file_that_is_no_parquet_is_refused(folder):
    (folder / "BTCUSDT_60.parquet").write_bytes(b"nonsense")
    with pytest.raises(SchemaMismatch, match=r"BTCUSDT_60\.parquet cannot be read"):
        ReplayedMarket(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "no rows"), ([1, 0], "not sorted"), ([0, 0], "twice")],
)
def test_a_file_of_wrong_rows_is_refused(folder, recorded, rows, message):
    table = recorded.take(pa.array(rows, pa.int64()))
    pq.write_table(table, folder / "BTCUSDT_60.parquet")
    with pytest.raises(DataError, match=message):
        ReplayedMarket(folder)


def test_a_candle_off_its_grid_is_refused(folder, recorded):
    pq.write_table(recorded, folder / "BTCUSDT_240.parquet")
    with pytest.raises(DataError, match="2024-06-01T01:00Z, off the grid"):
        ReplayedMarket(folder)


def test_a_missing_price_is_refused(folder, recorded):
    gap = recorded.set_column(1, "open", pa.array([1.0, None, 1.0, 1.0, 1.0]))
    pq.write_table(gap, folder / "BTCUSDT_60.parquet")
    with pytest.raises(DataError, match="no finite open in row 1"):
        ReplayedMarket(folder)


@pytest.mark.real_data
def test_recorded_candles_survive_the_round_trip_exactly(real_data):
    table = pq.read_table(real_data / "BTCUSDT_60.parquet").slice(0, 1000)
    last = table["start_time"][-1].as_py()
    body = _ask(
        ReplayedMarket(real_data),
        last + HOUR,
        "kline",
        symbol="BTCUSDT",
        interval="60",
        limit=1000,
        end=last,
    )
    served = [(int(row[0]), *map(float, row[1:])) for row in reversed(body["result"]["list"])]
    assert served == [tuple(row.values()) for row in table.to_pylist()]
