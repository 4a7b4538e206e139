"""The whole graph on recorded candles, half an hour before the end of a month."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.exchange import ReplayedMarket
from flash_pipeline.features import CATALOG
from flash_pipeline.market import CANDLE_SCHEMA, Month, parse_instant
from flash_pipeline.windows import read_windows
from flash_pipeline_tests.defs.conftest import small_chain
from flash_pipeline_tests.features.test_real_data import _by_windows

pytestmark = [pytest.mark.real_data, pytest.mark.slow]

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"]
MONTHS = (Month(2024, 5), Month(2024, 6))
LAST_CLOSE = parse_instant("2024-06-30T23:00:00Z")
CANDLES = (31 + 30) * 24 - 1
"""Hours of the two months, less the last one, which is still forming."""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, real_data):
    """The chain after one run over May and June of 2024."""
    home = tmp_path_factory.mktemp("real")
    market = ReplayedMarket(real_data)
    with small_chain(home, now="2024-06-30T23:30:00Z", market=market) as chain:
        result = chain.run(MONTHS, symbols=SYMBOLS, lookback=64)
        assert result.success, failure_reason(result)
        yield chain


@pytest.fixture(autouse=True)
def isolated_settings():
    """Leave the environment to the chain, which outlives a test."""


def recorded(folder, symbol) -> pa.Table:
    table = pq.read_table(folder / f"{symbol}_60.parquet", partitioning=None)
    start = table["start_time"]
    closed = pc.and_(
        pc.greater_equal(start, MONTHS[0].time_range.start), pc.less(start, LAST_CLOSE)
    )
    return table.filter(closed).select(CANDLE_SCHEMA.names).cast(CANDLE_SCHEMA)


def stored(chain, symbol) -> pa.Table:
    folder = chain.settings.klines / f"symbol={symbol}"
    tables = [
        pq.read_table(folder / f"month={month}.parquet", partitioning=None) for month in MONTHS
    ]
    return pa.concat_tables(tables)


def rows(chain, query) -> list[tuple]:
    with duckdb.connect(str(chain.settings.warehouse), read_only=True) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_stored_candles_are_those_of_the_recording_value_for_value(replayed, real_data, symbol):
    found, wanted = stored(replayed, symbol), recorded(real_data, symbol)
    assert found.num_rows == CANDLES
    assert found.cast(CANDLE_SCHEMA).equals(wanted)


def test_no_other_candle_is_stored(replayed):
    files = list(replayed.settings.klines.rglob("*.parquet"))
    assert len(files) == len(SYMBOLS) * len(MONTHS)
    assert sum(pq.read_metadata(path).num_rows for path in files) == 5 * (31 * 24 + 30 * 24) - 5


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_features_are_the_chapters_formulas(replayed, real_data, symbol):
    names = ", ".join(feature.name for feature in CATALOG)
    found = np.array(
        rows(
            replayed,
            f"SELECT {names} FROM features WHERE symbol = '{symbol}' ORDER BY start_time",
        ),
        dtype=float,
    )
    candles = recorded(real_data, symbol)
    wanted = _by_windows(candles["close"].to_numpy(), candles["volume"].to_numpy())
    assert len(found) == CANDLES
    for column, feature in zip(found.T, CATALOG, strict=True):
        assert np.isnan(column).sum() == feature.warmup - 1
        np.testing.assert_allclose(
            column[feature.warmup - 1 :],
            wanted[feature.name][feature.warmup - 1 :],
            rtol=1e-9,
            atol=1e-15,
        )


def test_forecasts_are_of_the_last_closed_candle(replayed):
    found = rows(replayed, "SELECT symbol, made_at, horizon, prediction FROM forecasts")
    assert sorted(row[:3] for row in found) == sorted((s, LAST_CLOSE, 24) for s in SYMBOLS)
    assert all(np.isfinite(row[3]) for row in found)


def test_nothing_real_is_labelled_synthetic(replayed):
    settings = replayed.settings
    marks = {pq.read_schema(p).metadata[b"synthetic"] for p in settings.klines.rglob("*.parquet")}
    assert marks == {b"False"}
    assert not read_windows(settings.windows).synthetic
    assert rows(replayed, "SELECT DISTINCT synthetic FROM forecasts") == [(False,)]
    (report,) = settings.reports.glob("2*/report.html")
    assert "synthetic" not in report.read_text().lower()
