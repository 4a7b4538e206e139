import time

import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange import Clock


def test_starts_at_the_given_instant_and_ticks_on():
    elapsed = iter([5_000_000_000, 7_500_000_000])
    clock = Clock(1_000_000, monotonic_ns=lambda: next(elapsed))
    assert clock.now_ms() == 1_002_500


def test_speed_multiplies_the_elapsed_time():
    elapsed = iter([0, 1_000_000_000])
    clock = Clock(0, speed=3600, monotonic_ns=lambda: next(elapsed))
    assert clock.now_ms() == 3_600_000


def test_speed_zero_stops_it():
    clock = Clock(1234, speed=0)
    assert clock.now_ms() == 1234


def test_starts_at_real_time_by_default():
    assert abs(Clock().now_ms() - time.time() * 1000) < 1000


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
def test_refuses_a_speed_that_is_no_speed(speed):
    with pytest.raises(InvalidConfig, match="speed"):
        Clock(0, speed=speed)


def test_refuses_a_time_before_1970():
    with pytest.raises(InvalidConfig, match="-1"):
        Clock(-1)
