from decimal import Decimal

import numpy as np
import pytest

from flash_pipeline.exchange.candles import Candles
from flash_pipeline.exchange.forming import partial_candle
from flash_pipeline.exchange.instruments import Instrument

BTC = Instrument("BTCUSDT", 0, Decimal("0.1"), Decimal("0.001"))
FINAL = Candles(*(np.array([v]) for v in (0, 100.0, 110.0, 95.0, 108.0, 50.0, 5100.0)))


@pytest.mark.parametrize("elapsed", [0.0, 1e-7, 0.25, 0.5, 0.999, 1 - 1e-7])
def test_lies_within_the_final_candle_and_differs_from_it(elapsed):
    partial = partial_candle(FINAL, elapsed, BTC)
    assert partial.open == FINAL.open
    assert FINAL.low <= partial.low <= partial.open <= partial.high <= FINAL.high
    assert partial.low <= partial.close <= partial.high
    assert partial.volume < FINAL.volume
    assert partial.low * partial.volume <= partial.turnover <= partial.high * partial.volume


def test_halfway_is_half_of_it():
    partial = partial_candle(FINAL, 0.5, BTC)
    assert (partial.high, partial.low, partial.close) == (105.0, 97.5, 104.0)
    assert partial.volume == 25.0


def test_a_missing_turnover_stays_missing():
    without = Candles(*FINAL.columns()[:-1], turnover=np.array([np.nan]))
    assert np.isnan(partial_candle(without, 0.5, BTC).turnover)
