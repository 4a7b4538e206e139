"""A small market of random walks."""

import numpy as np
import pytest

from flash_pipeline.market import parse_instant
from flash_pipeline.portfolio import UniverseConfig, build_panel

START = parse_instant("2024-01-01")  # a Monday
HOUR = 3_600_000
UNIVERSE = UniverseConfig(n_assets=4, trailing_hours=48, refresh_hours=24)
NAMES = ("AAUSDT", "BBUSDT", "CCUSDT", "DDUSDT", "EEUSDT")


def market(hours=400, count=5, seed=0, listed=None, gone=None):
    """Return names, hours and candles; `listed` and `gone` name rows by symbol."""
    random = np.random.default_rng(seed)
    steps = 0.01 * random.standard_normal((hours, count))
    close = 100 * np.exp(np.cumsum(steps, axis=0))
    noise = np.exp(0.1 * random.standard_normal(close.shape))
    open_ = np.vstack([np.full((1, count), 100.0), close[:-1]])
    candles = {
        "open": open_,
        "high": np.maximum(open_, close) * 1.001,
        "low": np.minimum(open_, close) * 0.999,
        "close": close,
        "turnover": np.arange(count, 0, -1) * 1e6 * noise,
    }
    names = NAMES[:count]
    for symbol, row in (listed or {}).items():
        for values in candles.values():
            values[:row, names.index(symbol)] = np.nan
    for symbol, row in (gone or {}).items():
        for values in candles.values():
            values[row:, names.index(symbol)] = np.nan
    return names, START + HOUR * np.arange(hours, dtype=np.int64), candles


def panel_of(*, universe=UNIVERSE, **options):
    names, start_time_T, candles = market(**options)
    return build_panel(names, start_time_T, candles, universe, synthetic=True)


@pytest.fixture
def panel():
    return panel_of(listed={"BBUSDT": 150}, gone={"CCUSDT": 300})
