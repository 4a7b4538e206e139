from collections.abc import Callable

import pyarrow as pa
import pytest

from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000


@pytest.fixture
def store(tmp_path) -> KlineStore:
    return KlineStore(tmp_path / "klines", Interval.HOUR_1)


@pytest.fixture
def candles() -> Callable[[Month, int], pa.Table]:
    """Make the first hours of a month; every second turnover is missing."""

    def candles(month: Month, hours: int) -> pa.Table:
        start = month.time_range.start
        rows = [
            [start + n * HOUR, 10.5, 11.0, 10.0, 10.7, 1.5 + n, None if n % 2 else 16.0]
            for n in range(hours)
        ]
        columns = zip(*rows, strict=True)
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, CANDLE_SCHEMA, strict=True)],
            schema=CANDLE_SCHEMA,
        )

    return candles
