from decimal import Decimal

import numpy as np
import pytest

from flash_pipeline.exchange.candles import Candles
from flash_pipeline.exchange.inference import infer_instrument
from flash_pipeline.exchange.source import FundingRate


def _candles(prices, volumes) -> Candles:
    price = np.array(prices)
    return Candles(np.arange(len(price)) + 77, price, price, price, price, np.array(volumes), price)


@pytest.mark.parametrize(
    ("prices", "tick"),
    [
        ([57355.5, 57350.0], "0.5"),
        ([62749.5, 62749.6], "0.1"),
        ([581.95, 581.6], "0.05"),
        ([0.4758, 0.4757], "0.0001"),
        ([1.2e-06, 1.3e-06], "1E-7"),
    ],
)
def test_tick_divides_the_prices(prices, tick):
    assert infer_instrument("BTCUSDT", _candles(prices, [1.0, 2.0]), []).tick_size == Decimal(tick)


def test_old_prices_do_not_count():
    candles = _candles([1.23456] + [5.5] * 1000, [1.0] * 1001)
    assert infer_instrument("BTCUSDT", candles, []).tick_size == Decimal("0.5")


@pytest.mark.parametrize(("volume", "step"), [(341.89799999, "0.001"), (25.4, "0.1"), (5e6, "1")])
def test_float_noise_is_no_quantity_step(volume, step):
    instrument = infer_instrument("BTCUSDT", _candles([1.0], [volume]), [])
    assert instrument.quantity_step == Decimal(step)


def test_launch_is_the_first_candle():
    assert infer_instrument("BTCUSDT", _candles([1.0, 2.0], [1.0, 1.0]), []).launch_ms == 77


def test_funding_interval_is_that_of_the_newest_settlements():
    hour = 3_600_000
    rates = [FundingRate(hour * n, 0.0001) for n in (0, 8, 12)]
    late = [*rates, FundingRate(hour * 16 + 31, 0.0001)]
    candles = _candles([1.0], [1.0])
    assert infer_instrument("BTCUSDT", candles, []).funding_minutes == 480
    assert infer_instrument("BTCUSDT", candles, late).funding_minutes == 240
