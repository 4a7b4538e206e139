import numpy as np
import pytest

from flash_pipeline.backtest import Costs, Prices

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01T00:00Z


@pytest.fixture
def free():
    return Costs(fee_rate=0.0, slippage_rate=0.0)


@pytest.fixture
def make_prices():
    def make(open_TS, close_TS):
        open_TS, close_TS = np.asarray(open_TS, dtype=float), np.asarray(close_TS, dtype=float)
        if open_TS.ndim == 1:
            open_TS, close_TS = open_TS[:, None], close_TS[:, None]
        symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")[: open_TS.shape[1]]
        return Prices(FIRST_MS + HOUR_MS * np.arange(len(open_TS)), open_TS, close_TS, symbols)

    return make


@pytest.fixture
def random_walk(make_prices):
    def make(n_bars, n_symbols=3, seed=0, step=0.01):
        rng = np.random.default_rng(seed)
        close_TS = 100 * np.exp(np.cumsum(rng.normal(0, step, (n_bars, n_symbols)), axis=0))
        before_TS = np.vstack([np.full((1, n_symbols), 100.0), close_TS[:-1]])
        return make_prices(before_TS * np.exp(rng.normal(0, step / 10, close_TS.shape)), close_TS)

    return make


@pytest.fixture
def random_weights():
    def make(n_bars, n_symbols=3, seed=1):
        return np.random.default_rng(seed).uniform(-1, 1, (n_bars, n_symbols)) / n_symbols

    return make
