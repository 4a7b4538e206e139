"""A small market from candle files to windows, and models with random weights over it."""

import dataclasses

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import torch

from flash_pipeline.evaluation import Terms, evaluate_challenger
from flash_pipeline.features import FEATURE_NAMES, read_features, refresh_features
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month
from flash_pipeline.model import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle, Provenance
from flash_pipeline.training.recipes import DataConfig, Recipe, TrainConfig
from flash_pipeline.training.scaler import FeatureScaler
from flash_pipeline.training.targets import RmsScaler
from flash_pipeline.windows import panel_from_features, write_windows

HOUR_MS = 3_600_000
JANUARY = Month(2024, 1)
FIRST_MS = JANUARY.time_range.start
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
BARS, LOOKBACK, HORIZON = 240, 16, 4


def _candles(hours, seed):
    rng = np.random.default_rng(seed)
    close_T = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, BARS)))
    open_T = np.concatenate([[100.0], close_T[:-1]])
    table = pa.table(
        {
            "start_time": FIRST_MS + HOUR_MS * np.arange(BARS),
            "open": open_T,
            "high": np.maximum(open_T, close_T),
            "low": np.minimum(open_T, close_T),
            "close": close_T,
            "volume": rng.lognormal(size=BARS),
            "turnover": close_T,
        }
    )
    return table.cast(CANDLE_SCHEMA).take(list(hours))


@pytest.fixture
def make_store(tmp_path):
    """Return a maker of candle files of the first hours, some of a symbol's left out."""

    def make(bars=BARS, *, absent=None, name="klines"):
        store = KlineStore(tmp_path / name, Interval.HOUR_1)
        for seed, symbol in enumerate(SYMBOLS):
            missing = (absent or {}).get(symbol, ())
            hours = [hour for hour in range(bars) if hour not in missing]
            store.write_month(symbol, JANUARY, _candles(hours, seed), synthetic=True)
        return store

    return make


@pytest.fixture
def warehouse():
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        yield connection


@pytest.fixture
def make_frame(warehouse, tmp_path):
    """Return a maker of the windows of a store; the features stay in the warehouse."""

    def make(store, *, synthetic=True):
        refresh_features(warehouse, store, SYMBOLS, JANUARY, JANUARY)
        rows = read_features(warehouse, SYMBOLS, FIRST_MS)
        return write_windows(
            panel_from_features(rows, SYMBOLS, FEATURE_NAMES, Interval.HOUR_1),
            tmp_path / "windows",
            lookback=LOOKBACK,
            horizon=HORIZON,
            stride=LOOKBACK,
            synthetic=synthetic,
        )

    return make


@pytest.fixture
def store(make_store):
    return make_store()


@pytest.fixture
def frame(make_frame, store):
    return make_frame(store)


@pytest.fixture(scope="session")
def make_bundle():
    """Return a maker of models with random weights; a silent one always predicts nothing."""
    architecture = {field.name for field in dataclasses.fields(ModelConfig)}

    def make(*, seed=0, head="regression", lookback=LOOKBACK, silent=False, **changes):
        config = ModelConfig(
            n_symbols=len(SYMBOLS),
            n_features=len(FEATURE_NAMES),
            d_model=8,
            n_heads=2,
            n_layers=1,
            d_ff=16,
            max_seq_len=lookback,
            head=head,
            **{name: value for name, value in changes.items() if name in architecture},
        )
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = FlashAttentionTrader(config)
            torch.nn.init.xavier_uniform_(model.head.linear.weight, gain=0.0 if silent else 1.0)
        shape = (config.n_symbols, config.n_features)
        provenance = Provenance(
            recipe="tiny",
            fingerprint="0",
            snapshot="0",
            synthetic=True,
            train_from=FIRST_MS,
            train_until=FIRST_MS + 100 * HOUR_MS,
            seen_until=FIRST_MS + 120 * HOUR_MS,
        )
        facts = {field.name for field in dataclasses.fields(Provenance)}
        own = {n: v for n, v in changes.items() if n not in facts | architecture}
        known = {name: value for name, value in changes.items() if name in facts}
        bundle = ModelBundle(
            config=config,
            weights=model.state_dict(),
            features=FeatureScaler(np.zeros(shape, np.float32), np.ones(shape, np.float32)),
            targets=RmsScaler(np.full(config.n_symbols, 0.02, np.float32)),
            symbols=SYMBOLS,
            feature_names=FEATURE_NAMES,
            interval="60",
            lookback=lookback,
            horizon=HORIZON,
            prediction_scale=0.0 if silent else 0.02,
            provenance=dataclasses.replace(provenance, **known),
        )
        return dataclasses.replace(bundle, **own)

    return make


@pytest.fixture
def contest(frame, store, tmp_path, monkeypatch):
    """Return a function that lets models meet on the frame: the contest and its report.

    The picture takes most of the time, so it is drawn only where a test is about it.
    """

    def contest(challenger, champion=None, *, drawn=False):
        with monkeypatch.context() as patch:
            if not drawn:
                patch.setattr("flash_pipeline.backtest.report.four_panel", lambda *_, **__: b"")
            return evaluate_challenger(
                frame,
                store,
                Terms(),
                tmp_path / "reports",
                ("2", challenger),
                None if champion is None else ("1", champion),
            )

    return contest


@pytest.fixture(scope="session")
def tiny_recipe():
    """Return a recipe that trains on the small market in a moment."""
    data = DataConfig(symbols=SYMBOLS, lookback=LOOKBACK, horizon=HORIZON)
    model = ModelConfig(
        n_symbols=len(SYMBOLS),
        n_features=len(FEATURE_NAMES),
        d_model=8,
        n_heads=2,
        n_layers=1,
        d_ff=16,
        max_seq_len=LOOKBACK,
    )
    return Recipe("tiny", data, model, TrainConfig(epochs=1, warm_epochs=1, batch_size=32))
