"""A planted market: the next bar's return is known, up to noise, from the bar before it."""

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.market import Interval
from flash_pipeline.model import ModelConfig
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.recipes import DataConfig, Recipe, TrainConfig
from flash_pipeline.training.targets import volatility_of
from flash_pipeline.training.trainer import fit_scalers, train
from flash_pipeline.windows import (
    Panel,
    SplitConfig,
    chronological_split,
    write_windows,
)
from flash_pipeline.windows.dataset import WindowBatches

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000  # 2024-01-01T00:00Z
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LOOKBACK = 8
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def make_panel():
    """Return a maker of panels in which feature 0 of a bar gives `signal` of the next return."""

    def make(bars=300, *, signal=0.9, seed=0):
        rng = np.random.default_rng(seed)
        x_TSF = rng.normal(size=(bars, 2, len(FEATURE_NAMES))).astype(np.float32)
        noise_TS = rng.normal(size=(bars, 2))
        return_TS = 0.01 * (signal * x_TSF[:, :, 0] + np.sqrt(1 - signal**2) * noise_TS)
        close_TS = 100 * np.exp(np.cumsum(np.vstack([np.zeros((1, 2)), return_TS[:-1]]), axis=0))
        start_time_T = FIRST_MS + HOUR_MS * np.arange(bars)
        return Panel(SYMBOLS, FEATURE_NAMES, Interval.HOUR_1, start_time_T, x_TSF, close_TS)

    return make


@pytest.fixture(scope="session")
def cut():
    """Return a function that cuts a panel into windows of 8 bars with a label 1 bar ahead."""

    def cut(panel, *, synthetic=True, horizon=1):
        with TemporaryDirectory() as folder:
            return write_windows(
                panel,
                Path(folder) / "windows",
                lookback=LOOKBACK,
                horizon=horizon,
                stride=LOOKBACK,
                synthetic=synthetic,
            )

    return cut


@pytest.fixture(scope="session")
def frame(make_panel, cut):
    return cut(make_panel())


@pytest.fixture(scope="session")
def split(frame):
    return chronological_split(frame, SplitConfig())


def tiny_recipe(**changes):
    """Return a recipe for the planted market; changes are fields of its model and training."""
    model = ModelConfig(
        n_symbols=2,
        n_features=len(FEATURE_NAMES),
        d_model=8,
        n_heads=2,
        n_layers=1,
        d_ff=16,
        max_seq_len=LOOKBACK,
    )
    fitting = TrainConfig(epochs=3, warm_epochs=2, batch_size=32, learning_rate=1e-2)
    own = {field.name for field in dataclasses.fields(ModelConfig)}
    return Recipe(
        name="tiny",
        data=DataConfig(symbols=SYMBOLS, lookback=LOOKBACK, horizon=1),
        model=dataclasses.replace(model, **{k: v for k, v in changes.items() if k in own}),
        train=dataclasses.replace(fitting, **{k: v for k, v in changes.items() if k not in own}),
    )


DENSE = {
    "span": "sliding",
    "window": LOOKBACK,
    "positions": "rotary",
    "supervision": "dense",
}
"""Changes that make the tiny model learn at every bar."""


@pytest.fixture(scope="session")
def make_recipe():
    """Return a maker of recipes for the planted market, by fields of the model and training."""
    return tiny_recipe


@pytest.fixture(scope="session")
def batches(frame, split):
    """Return the planted windows, scaled."""
    features, targets = fit_scalers(frame, split, tiny_recipe())
    sigma_BKS = volatility_of(frame.x_BKSF, frame.features)
    y_BKS = targets.transform(frame.y_BKS, sigma_BKS)
    return WindowBatches(frame, features.transform(frame.x_BKSF), y_BKS, CPU)


@pytest.fixture(scope="session")
def gapped_frame(make_panel, cut):
    """Return windows of a market that stood still for some bars, and lost one symbol for more."""
    panel = make_panel(120)
    x_TSF, close_TS = panel.x_TSF.copy(), panel.close_TS.copy()
    x_TSF[40:43] = close_TS[40:43] = np.nan
    close_TS[60:80, 1] = np.nan
    return cut(dataclasses.replace(panel, x_TSF=x_TSF, close_TS=close_TS))


@pytest.fixture(scope="session")
def gapped(gapped_frame):
    """Return the batches of the market with gaps."""
    frame = gapped_frame
    return WindowBatches(frame, np.nan_to_num(frame.x_BKSF), 100 * frame.y_BKS, CPU)


@pytest.fixture(scope="session")
def training(frame, split, make_recipe):
    """Return a finished training of three epochs."""
    return train(frame, split, make_recipe(), device=CPU)


@pytest.fixture(scope="session")
def bundle(training):
    return training.bundle


@pytest.fixture
def no_room_for_weights(monkeypatch):
    """Let every device but the CPU be without room for the weights of a price model."""
    build_all = ModelBundle.build_all

    def full(self, device=None):
        if device is not None and device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore.")
        return build_all(self, device)

    monkeypatch.setattr(ModelBundle, "build_all", full)
