import pytest
import torch

from flash_pipeline.model import ModelConfig
from flash_pipeline.model.trader import FlashAttentionTrader

TINY = {
    "n_symbols": 2,
    "n_features": 3,
    "d_model": 16,
    "n_heads": 2,
    "n_layers": 2,
    "d_ff": 32,
    "max_seq_len": 150,
}


@pytest.fixture
def tiny():
    """Return a maker of tiny configurations."""
    return lambda **changes: ModelConfig(**{**TINY, **changes})


@pytest.fixture
def make_model(tiny):
    """Return a maker of tiny seeded models in evaluation, with a head large enough to tell."""

    def make(**changes):
        torch.manual_seed(0)
        model = FlashAttentionTrader(tiny(**changes))
        torch.nn.init.xavier_uniform_(model.head.linear.weight)
        return model.eval()

    return make


@pytest.fixture
def bars():
    """Return a maker of seeded inputs x_BTI for the tiny configurations."""

    def make(n_rows, n_bars, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(
            n_rows, n_bars, TINY["n_symbols"] * TINY["n_features"], generator=generator
        )

    return make
