import numpy as np

from flash_pipeline.exchange.candles import NO_CANDLES, Candles
from flash_pipeline.market import Interval

HOUR = 3_600_000


def _hours(starts, turnover=None) -> Candles:
    value = np.arange(1.0, len(starts) + 1)
    return Candles(
        start_time=np.array(starts) * HOUR,
        open=value,
        high=value + 2,
        low=value - 1,
        close=value + 1,
        volume=value * 10,
        turnover=value * 15 if turnover is None else np.array(turnover),
    )


def test_four_hours_make_one_candle():
    (candle,) = zip(*_hours([4, 5, 6, 7]).aggregate(Interval.HOUR_4).columns(), strict=True)
    assert candle == (4 * HOUR, 1, 6, 0, 5, 100, 150)


def test_absent_hours_are_left_out_of_their_candle():
    assert _hours([3, 4, 9]).aggregate(Interval.HOUR_4).volume.tolist() == [10, 20, 30]


def test_a_missing_turnover_makes_the_sum_missing():
    turnover = _hours([0, 1, 4], turnover=[1.0, np.nan, 3.0]).aggregate(Interval.HOUR_4).turnover
    np.testing.assert_array_equal(turnover, [np.nan, 3.0])


def test_no_candles_make_no_candles():
    assert len(NO_CANDLES.aggregate(Interval.DAY_1)) == 0


def test_both_ends_of_a_range_are_included():
    assert len(_hours([1, 2, 3, 4]).between(2 * HOUR, 3 * HOUR)) == 2
    assert len(_hours([1, 2, 3, 4]).between(3 * HOUR, 2 * HOUR)) == 0
