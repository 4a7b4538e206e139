"""A share that is listed later than the coins beside it."""

import os

import dagster as dg

from flash_pipeline.defs.assets.market_data import instruments, klines
from flash_pipeline.defs.failures import failure_reason
from flash_pipeline.defs.partitions import range_tags
from flash_pipeline.defs.resources import ExchangeResource, PipelineResource
from flash_pipeline.market import CandleAnswer, Interval, Month, empty_candles
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.yahoo import YahooClient
from flash_pipeline_tests.defs.conftest import small_chain


def test_a_share_without_a_candle_yet_holds_up_no_coin(tmp_path, monkeypatch):
    def none(self, symbol, interval, window):
        return CandleAnswer(empty_candles(), self.now())

    monkeypatch.setattr(YahooClient, "candles", none)
    february = Month(2024, 2)
    with small_chain(tmp_path) as chain:
        os.environ["FLASH_PIPELINE_YAHOO"] = "AAPL=AAPL"
        os.environ["FLASH_PIPELINE_YAHOO_URL"] = os.environ["FLASH_PIPELINE_BYBIT_URL"]
        symbols = ["BTCUSDT", "AAPL"]
        result = dg.materialize(
            [instruments, klines],
            instance=chain.instance,
            tags=range_tags(february, february),
            raise_on_error=False,
            resources={
                "pipeline": PipelineResource(recipe="demo", symbols=symbols),
                "exchange": ExchangeResource(step_retries=0),
            },
        )
        assert result.success, failure_reason(result)
        store = KlineStore(chain.settings.klines, Interval.HOUR_1)
    rows = [store.read_all(symbol).num_rows for symbol in symbols]
    assert rows == [29 * 24, 0]
