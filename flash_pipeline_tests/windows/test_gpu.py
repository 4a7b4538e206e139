"""Batches from a panel in host memory; needs neither Dagster, MLflow nor DuckDB."""

import numpy as np
import pytest
import torch

from flash_pipeline.windows.dataset import PrefetchedBatches, WindowBatches, window_batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CUDA = torch.device("cuda")


def batches_of(frame, kind):
    return kind(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS.copy(), CUDA)


@pytest.mark.parametrize("dense", [False, True])
def test_a_panel_in_host_memory_gives_the_batches_of_a_resident_one(make_frame, dense):
    frame = make_frame(4000, lookback=512, stride=512, gaps=[(1000,)])
    resident, fetched = batches_of(frame, WindowBatches), batches_of(frame, PrefetchedBatches)
    order = torch.randperm(len(frame.anchor_N))
    kept = []
    # The GPU is kept busy, so that copies run ahead of it and would meet a buffer still in use.
    busy = torch.randn(4096, 4096, device=CUDA)
    for part in order.split(64):
        busy = busy @ busy / 4096
        kept.append([None if t is None else t.clone() for t in fetched.batch(part, dense=dense)])
    expected = resident.batches(order.to(CUDA).split(64), dense=dense)
    for one, other in zip(kept, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.device == b.device
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_a_small_panel_is_resident(make_frame):
    frame = make_frame()
    batches = window_batches(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS.copy(), CUDA)
    assert batches.resident
    assert batches.home.type == "cuda"
