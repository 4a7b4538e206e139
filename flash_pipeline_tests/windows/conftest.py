import numpy as np
import pytest

from flash_pipeline.market import Interval
from flash_pipeline.windows import Panel, WindowFrame, write_windows

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01T00:00Z
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
FEATURES = ("log_return", "volatility", "rsi")


def frame_of(labels_N, horizon):
    """Return a frame of one-bar windows with the labels of one symbol."""
    windows = len(labels_N)
    anchor_N = FIRST_MS + HOUR_MS * np.arange(windows)
    return WindowFrame(
        symbols=("BTCUSDT",),
        features=("log_return",),
        interval=Interval.HOUR_1,
        lookback=1,
        horizon=horizon,
        stride=1,
        synthetic=True,
        snapshot="",
        x_BKSF=np.zeros((windows, 1, 1, 1), np.float32),
        y_BKS=np.asarray(labels_N, np.float32).reshape(windows, 1, 1),
        valid_BKS=np.ones((windows, 1, 1), bool),
        anchor_N=anchor_N,
        block_N=np.arange(windows, dtype=np.int32),
        offset_N=np.zeros(windows, np.int32),
        label_end_N=anchor_N + (horizon + 1) * HOUR_MS,
    )


@pytest.fixture(scope="session")
def make_panel():
    """Return a maker of random panels; a gap is a bar, or a bar and a symbol, that is absent."""

    def make(bars, *, symbols=2, features=2, seed=0, gaps=()):
        rng = np.random.default_rng(seed)
        x_TSF = rng.normal(size=(bars, symbols, features)).astype(np.float32)
        close_TS = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (bars, symbols)), axis=0))
        for gap in gaps:
            x_TSF[gap], close_TS[gap] = np.nan, np.nan
        start_time_T = FIRST_MS + HOUR_MS * np.arange(bars)
        return Panel(
            SYMBOLS[:symbols], FEATURES[:features], Interval.HOUR_1, start_time_T, x_TSF, close_TS
        )

    return make


@pytest.fixture
def make_frame(make_panel, tmp_path):
    """Return a maker of stored windows of a random panel."""

    def make(bars=60, *, lookback=8, horizon=2, stride=8, **panel):
        return write_windows(
            make_panel(bars, **panel),
            tmp_path / "windows",
            lookback=lookback,
            horizon=horizon,
            stride=stride,
            synthetic=True,
        )

    return make
