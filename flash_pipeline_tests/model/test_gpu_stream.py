"""The streamed pass as a CUDA graph; runs alone, as `test_gpu.py` does."""

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model import ModelConfig
from flash_pipeline.model.captured_stream import CapturedStream
from flash_pipeline.model.streaming import stream
from flash_pipeline.model.trader import FlashAttentionTrader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture
def model():
    torch.manual_seed(3)
    sizes = {"d_model": 256, "n_heads": 4, "n_layers": 2, "d_ff": 512, "dropout": 0.1}
    span = {"span": "sliding", "window": 40, "positions": "rotary", "supervision": "dense"}
    return FlashAttentionTrader(ModelConfig(2, 15, **sizes, **span)).cuda()


def series(n_bars):
    return torch.randn(n_bars, 30, generator=torch.Generator().manual_seed(5)).cuda()


def bfloat16():
    return torch.autocast("cuda", dtype=torch.bfloat16)


@pytest.mark.parametrize("narrow", [False, True])
def test_a_captured_pass_gives_what_an_eager_one_does(model, narrow):
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=narrow):
        captured = CapturedStream(model, 700)
        for start in (0, 9):  # a replay reads the series it is given
            x_TI = series(709)[start : start + 700]
            torch.testing.assert_close(captured(x_TI), stream(model, x_TI), rtol=1e-3, atol=1e-4)
    assert model.training


def test_a_replay_reads_the_weights_of_the_moment(model):
    x_TI = series(300)
    with bfloat16():
        captured = CapturedStream(model, 300)
        before_TS = captured(x_TI)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        after_TS = captured(x_TI)
        torch.testing.assert_close(after_TS, stream(model, x_TI), rtol=1e-3, atol=1e-4)
    assert not after_TS.allclose(before_TS, rtol=1e-2)


def test_changing_the_future_changes_no_earlier_output(model):
    x_TI = series(300)
    with bfloat16():
        captured = CapturedStream(model, 300)
        before_TS = captured(x_TI)
        x_TI[200:] = 7.0
        assert captured(x_TI)[:200].equal(before_TS[:200])


def test_only_series_of_the_captured_length_are_taken(model):
    captured = CapturedStream(model, 300)
    with pytest.raises(InvalidInput, match="299 bars: expected 300, as captured"):
        captured(series(299))
