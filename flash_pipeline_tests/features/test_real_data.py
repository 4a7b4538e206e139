"""The features on recorded candles, with all that real markets do."""

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flash_pipeline.features import CATALOG, FEATURE_NAMES
from flash_pipeline.market import CANDLE_SCHEMA, Month

pytestmark = pytest.mark.real_data

# The month of FTX's fall, with an hourly range of 56 %, and the one after.
FIRST, LAST = Month(2022, 11), Month(2022, 12)


@pytest.fixture(params=["BTCUSDT", "SOLUSDT"])
def recorded(request, write, real_data):
    """Store two months of a symbol's real candles."""
    table = pq.read_table(real_data / f"{request.param}_60.parquet", partitioning=None)
    start = table["start_time"]
    inside = pc.and_(
        pc.greater_equal(start, FIRST.time_range.start), pc.less(start, LAST.time_range.end)
    )
    candles = table.filter(inside).select(CANDLE_SCHEMA.names)
    write(candles, request.param)
    return request.param


def test_two_real_months_are_the_chapters_formulas(recorded, refresh, values):
    done = refresh(str(FIRST), str(LAST), symbols=[recorded])
    assert done.rows == (30 + 31) * 24
    assert done.nulls == {feature.name: feature.warmup - 1 for feature in CATALOG}
    found = values(recorded)
    wanted = _by_windows(found["close"], found["volume"])
    for feature in CATALOG:
        ready = slice(feature.warmup - 1, None)
        np.testing.assert_allclose(
            found[feature.name][ready], wanted[feature.name][ready], rtol=1e-9, atol=1e-15
        )


def test_real_months_one_by_one_equal_both_at_once(recorded, refresh, values, recomputed):
    for month in (FIRST, LAST):
        refresh(str(month), symbols=[recorded])
    found, wanted = values(recorded), recomputed(str(FIRST), str(LAST), symbol=recorded)
    for name in FEATURE_NAMES:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-12)


def _by_windows(closes: np.ndarray, volumes: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the chapter's formulas window by window, without pandas' running sums.

    Running sums lose digits after an extreme; `apply` starts each window afresh.
    """
    close, volume = pd.Series(closes), pd.Series(volumes)
    log_return = np.log(close / close.shift(1))
    change = close.diff()

    def mean(series: pd.Series, bars: int) -> pd.Series:
        return series.rolling(bars).apply(np.mean, raw=True)

    gain, loss = mean(change.clip(lower=0), 14), mean(-change.clip(upper=0), 14)
    computed = {
        "log_return": log_return,
        "volatility": log_return.rolling(24).apply(lambda w: np.std(w, ddof=1), raw=True),
        "volume_ma_ratio": volume / mean(volume, 24),
        "price_ma_ratio": close / mean(close, 24),
        "rsi": 100 - 100 / (1 + gain / loss),
    }
    return {name: series.to_numpy() for name, series in computed.items()}
