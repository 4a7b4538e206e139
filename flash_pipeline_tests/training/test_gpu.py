"""Training and prediction on a CUDA device; needs neither Dagster, MLflow nor DuckDB there."""

import dataclasses

import numpy as np
import pytest
import torch

from flash_pipeline.market import Interval
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.passes import outputs_of
from flash_pipeline.training.predictor import Predictor
from flash_pipeline.training.recipes import demo_recipe
from flash_pipeline.training.trainer import train
from flash_pipeline.windows import Panel, chronological_split, write_windows
from flash_pipeline.windows.dataset import WindowBatches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

BARS, LOOKBACK, HORIZON = 1200, 100, 4


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Windows whose label is a known function of the last bar; 100 bars are no whole tiles."""
    random = np.random.default_rng(7)
    x_TSF = random.normal(size=(BARS, 2, 5)).astype(np.float32)
    step_TS = np.zeros((BARS, 2))
    step_TS[1:] = 0.01 * x_TSF[:-1, :, 0]
    panel = Panel(
        symbols=("BTCUSDT", "ETHUSDT"),
        features=("log_return", "volatility", "volume_ma_ratio", "price_ma_ratio", "rsi"),
        interval=Interval.HOUR_1,
        start_time_T=np.arange(BARS, dtype=np.int64) * 3_600_000,
        x_TSF=x_TSF,
        close_TS=100 * np.exp(np.cumsum(step_TS, axis=0)),
    )
    folder = tmp_path_factory.mktemp("windows")
    return write_windows(
        panel, folder, lookback=LOOKBACK, horizon=HORIZON, stride=LOOKBACK, synthetic=True
    )


def recipe(**model):
    small = demo_recipe().with_data(
        symbols=("BTCUSDT", "ETHUSDT"), lookback=LOOKBACK, horizon=HORIZON
    )
    return small.with_model(d_model=64, n_heads=2, dropout=0.0, **model).with_training(epochs=4)


@pytest.mark.parametrize("attention", ["auto", "flash_attn", "sdpa", "reference"])
def test_a_training_on_the_gpu_learns_under_every_backend(frame, attention):
    trained = train(frame, chronological_split(frame, recipe().split), recipe(attention=attention))
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert trained.best.validation_loss < 1.0, "predicting zero has a loss of about 1"
    assert trained.device == torch.cuda.get_device_name()


def test_auto_takes_a_fused_kernel_under_bf16_autocast(frame):
    trained = train(frame, chronological_split(frame, recipe().split), recipe())
    assert not trained.attention.startswith("reference")


STREAMING = {"span": "sliding", "window": 30, "positions": "rotary", "supervision": "dense"}


def test_one_pass_over_the_panel_judges_a_model_as_window_by_window(frame):
    device = torch.device("cuda")
    batches = WindowBatches(frame, np.nan_to_num(frame.x_BKSF), 100 * frame.y_BKS, device)
    torch.manual_seed(0)
    model = FlashAttentionTrader(recipe(**STREAMING).model).to(device)
    torch.nn.init.xavier_uniform_(model.head.linear.weight)
    index_N = np.arange(100, 400)
    streamed_NS = outputs_of(model, batches, index_N)
    odd_N = np.concatenate([index_N[::2], index_N[1::2]])  # these do not follow one another
    windowed_NS = outputs_of(model, batches, odd_N)[torch.from_numpy(np.argsort(odd_N))]
    error = (streamed_NS - windowed_NS).square().mean().sqrt()
    assert error < 0.02 * windowed_NS.square().mean().sqrt(), "bf16 keeps two to three digits"


@pytest.mark.parametrize("head", ["regression", "direction", "allocation"])
def test_a_model_trained_on_the_gpu_predicts_the_same_on_a_cpu(frame, head, tmp_path):
    trained = train(frame, chronological_split(frame, recipe().split), recipe(head=head))
    trained.bundle.save(tmp_path)
    bundle = ModelBundle.load(tmp_path)
    assert all(weight.dtype == torch.float32 for weight in bundle.weights.values())
    # A CPU has no flash-attn: `auto` must find its way there.
    assert dataclasses.asdict(bundle.config)["attention"] == "auto"
    windows = frame.batch(np.arange(500, 532))
    here = Predictor(bundle, torch.device("cuda")).predict(windows)
    there = Predictor(bundle, torch.device("cpu")).predict(windows)
    scale = np.abs(there).max()
    assert np.abs(here - there).max() < 0.05 * scale, "bf16 keeps two to three digits"
