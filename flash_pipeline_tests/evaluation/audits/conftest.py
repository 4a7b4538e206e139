"""A small market of candles, long enough to train on, and a model trained on it."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.evaluation.audits import Candles
from flash_pipeline.features import FEATURE_NAMES
from flash_pipeline.features.catalog import CATALOG
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.model import ModelConfig
from flash_pipeline.model.trader import evaluating
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.recipes import DataConfig, Recipe, TrainConfig
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import chronological_split

HOUR_MS = 3_600_000
JANUARY = Month(2024, 1)
FIRST_MS = JANUARY.time_range.start
SYMBOLS = ("BTCUSDT", "ETHUSDT")
BARS, LOOKBACK, HORIZON = 640, 16, 4


def hour(n):
    return FIRST_MS + n * HOUR_MS


def candle_table(seed, bars=BARS):
    rng = np.random.default_rng(seed)
    close_T = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars)))
    open_T = np.concatenate([[100.0], close_T[:-1]]) * np.exp(rng.normal(0, 1e-4, bars))
    columns = {
        "start_time": FIRST_MS + HOUR_MS * np.arange(bars),
        "open": open_T,
        "high": np.maximum(open_T, close_T),
        "low": np.minimum(open_T, close_T),
        "close": close_T,
        "volume": rng.lognormal(size=bars),
        "turnover": close_T,
    }
    return pa.table(columns).cast(CANDLE_SCHEMA)


@pytest.fixture(scope="session")
def candles():
    tables = {symbol: candle_table(seed) for seed, symbol in enumerate(SYMBOLS)}
    return Candles(tables, Interval.HOUR_1)


@pytest.fixture(scope="session")
def store(candles, tmp_path_factory):
    store = KlineStore(tmp_path_factory.mktemp("audits") / "klines", Interval.HOUR_1)
    for symbol, table in candles.tables.items():
        store.write_month(symbol, JANUARY, table, synthetic=True)
    return store


@pytest.fixture(scope="session")
def frame(candles):
    return candles.frame(LOOKBACK, HORIZON, synthetic=True)


SLIDING = {"span": "sliding", "window": LOOKBACK, "positions": "rotary", "supervision": "dense"}
"""Changes that let a model stream."""


@pytest.fixture(scope="session")
def make_recipe():
    """Return a maker of small recipes, by fields of the model and the training."""

    def make(**changes):
        model = ModelConfig(
            n_symbols=len(SYMBOLS),
            n_features=len(FEATURE_NAMES),
            d_model=8,
            n_heads=2,
            n_layers=1,
            d_ff=16,
            max_seq_len=LOOKBACK,
            dropout=0.0,
        )
        fitting = TrainConfig(epochs=1, warm_epochs=1, batch_size=64, learning_rate=1e-2)
        own = {field.name for field in dataclasses.fields(ModelConfig)}
        return Recipe(
            name="tiny",
            data=DataConfig(symbols=SYMBOLS, lookback=LOOKBACK, horizon=HORIZON),
            model=dataclasses.replace(model, **{k: v for k, v in changes.items() if k in own}),
            train=dataclasses.replace(
                fitting, **{k: v for k, v in changes.items() if k not in own}
            ),
        )

    return make


@pytest.fixture(scope="session")
def make_bundle(frame, make_recipe):
    """Return a maker of models trained for an epoch, each once."""
    made = {}

    def make(**changes):
        key = str(sorted(changes.items()))
        if key not in made:
            recipe = make_recipe(**changes)
            made[key] = train(frame, chronological_split(frame, recipe.split), recipe).bundle
        return made[key]

    return make


@pytest.fixture
def with_feature(monkeypatch):
    """Return a function that replaces the formula of a feature by another, planted one."""

    def plant(name, sql):
        catalog = tuple(
            dataclasses.replace(feature, sql=sql) if feature.name == name else feature
            for feature in CATALOG
        )
        monkeypatch.setattr("flash_pipeline.features.engineering.CATALOG", catalog)

    return plant


@pytest.fixture
def that_reads_the_whole_span(monkeypatch):
    """Let a model with full attention predict every bar of a series from one pass over it all."""
    from flash_pipeline.training import predictor

    def whole(model, x_TI, known_T, lookback):
        with evaluating(model):
            return model.run(x_TI[None], None, "reference", every_bar=True)[0]

    monkeypatch.setattr(ModelConfig, "streams", property(lambda _: True))
    monkeypatch.setattr(predictor, "stream_windows", whole)
