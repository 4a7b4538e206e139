import itertools

import pytest
import torch

from benchmarks.gpu import (
    chapter,
    feasibility,
    goals,
    growth,
    kernels,
    recompute,
    sequences,
    throughput,
)
from benchmarks.gpu.bench import OUT_OF_MEMORY, Bench, Measured
from benchmarks.gpu.works import synthetic_panel
from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.windows import write_windows


class PretendedGpu(Bench):
    """A GPU's bench that measures nothing: a call takes longer than the last, or all memory."""

    def __init__(self):
        super().__init__(torch.device("cuda"), "full")
        self.calls = itertools.count(1)

    def attempt(self, make, *, setup_counts=True, rival_ms=None):  # noqa: ARG002
        call = next(self.calls)
        return Measured(note=OUT_OF_MEMORY) if call % 7 == 0 else Measured(call / 4, 5, call / 32)

    def free(self):
        pass


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A bench at the full sizes, on which every backend can run and `auto` takes flash_attn."""
    monkeypatch.setattr(kernels, "refusal", lambda _name, _call: None)
    chosen = BackendChoice("flash_attn", "flash_attn_func", "pretended")
    monkeypatch.setattr(kernels, "choose_backend", lambda _call: chosen)
    return PretendedGpu()


@pytest.fixture(
    params=[chapter, feasibility, goals, growth, kernels, recompute, sequences, throughput]
)
def gpu_part(request):
    return request.param.PART


@pytest.fixture
def stored_windows(tmp_path):
    """A folder of a few stored windows."""
    return _stored(tmp_path / "stored", bars=90)


@pytest.fixture
def long_windows(tmp_path):
    """A folder of enough stored windows to train on, and to test."""
    return _stored(tmp_path / "long", bars=600)


def _stored(folder, bars):
    panel = synthetic_panel(bars)
    write_windows(panel, folder, lookback=16, horizon=24, stride=16, synthetic=True)
    return folder
