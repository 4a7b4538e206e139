"""A share of Yahoo's beside a coin of Bybit's, from candles to forecasts."""

import os

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.market import Interval, iso_utc, parse_instant
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.windows import read_windows
from flash_pipeline_tests.defs.conftest import small_chain

pytestmark = pytest.mark.slow
NOW = "2024-03-20T19:30:00Z"  # a Wednesday, while New York trades
NEWEST = parse_instant("2024-03-20T18:00Z")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    with small_chain(tmp_path_factory.mktemp("yahoo"), NOW) as chain:
        os.environ["FLASH_PIPELINE_YAHOO"] = "AAPL=AAPL"
        os.environ["FLASH_PIPELINE_YAHOO_URL"] = os.environ["FLASH_PIPELINE_BYBIT_URL"]
        result = chain.run(symbols=["BTCUSDT", "AAPL"])
        assert result.success, failure_reason(result)
        yield chain


@pytest.fixture(scope="module")
def share(chain):
    return KlineStore(chain.settings.klines, Interval.HOUR_1).read_all("AAPL")


def rows(chain, query):
    with duckdb.connect(str(chain.settings.warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


def test_the_share_has_candles_of_its_sessions_up_to_now(share):
    hours = {iso_utc(start)[11:13] for start in share["start_time"].to_pylist()}
    assert hours == {"14", "15", "16", "17", "18", "19", "20", "21"}  # winter and summer time
    assert share["start_time"][-1].as_py() == NEWEST


def test_what_yahoo_lacks_is_absent(chain, share):
    assert share["turnover"].null_count == share.num_rows
    for name in ("instruments", "tickers"):
        symbols = pq.read_table(getattr(chain.settings, name))["symbol"].to_pylist()
        assert symbols == ["BTCUSDT"]
    for folder in (chain.settings.funding, chain.settings.mark_klines):
        assert [path.name for path in folder.iterdir()] == ["symbol=BTCUSDT"]


def test_closed_hours_are_on_record_as_that(chain):
    causes = rows(chain, "SELECT DISTINCT source, symbol, cause FROM kline_gaps")
    assert causes == [("yahoo", "AAPL", "market_closed")]


def test_features_are_known_over_the_nights(chain, share):
    known = "SELECT count(*), count(volatility) FROM features WHERE symbol = 'AAPL'"
    assert rows(chain, known) == [(share.num_rows, share.num_rows - 24)]


def test_windows_mask_the_closed_hours_and_no_others(chain, share):
    frame = read_windows(chain.settings.windows)
    valid_TS = frame.along_time(frame.valid_BKS)
    opened = np.isin(frame.start_time_T, share["start_time"].to_numpy()[24:])
    assert frame.symbols == ("BTCUSDT", "AAPL")
    np.testing.assert_array_equal(valid_TS[:, 1], opened)
    assert valid_TS[:, 0].all()


def test_both_have_a_forecast_from_the_newest_candle(chain):
    made = rows(chain, "SELECT symbol, made_at FROM forecasts ORDER BY symbol")
    end = NEWEST + Interval.HOUR_1.milliseconds
    assert made == [("AAPL", end), ("BTCUSDT", end)]
