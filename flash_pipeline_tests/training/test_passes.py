"""Passes without gradients: their sizes, and streaming in place of window by window."""

import numpy as np
import pytest
import torch

from flash_pipeline.errors import OutOfMemory
from flash_pipeline.model import footprint
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.training import passes
from flash_pipeline.training.loop import evaluate, predict
from flash_pipeline.training.passes import outputs_of, pass_size, windows_in_a_pass
from flash_pipeline.windows.dataset import PrefetchedBatches
from flash_pipeline_tests.training.conftest import DENSE, tiny_recipe

STREAMING = {**DENSE, "n_layers": 2, "window": 4}


@pytest.fixture
def make_model():
    def make(**changes):
        torch.manual_seed(0)
        model = FlashAttentionTrader(tiny_recipe(**changes).model)
        torch.nn.init.xavier_uniform_(model.head.linear.weight)
        return model

    return make


def one_by_one(model, batches, index_N):
    return torch.cat([outputs_of(model, batches, index_N[n : n + 1]) for n in range(len(index_N))])


@pytest.fixture
def windows_passed(monkeypatch):
    """Return the shapes of the windows that pass one by one."""
    shapes, last_outputs = [], FlashAttentionTrader.last_outputs

    def recorded(self, x_NLI, valid_NL=None):
        shapes.append(tuple(x_NLI.shape[:2]))
        return last_outputs(self, x_NLI, valid_NL)

    monkeypatch.setattr(FlashAttentionTrader, "last_outputs", recorded)
    return shapes


@pytest.mark.parametrize("head", ["regression", "quantile", "allocation"])
def test_a_model_that_streams_is_evaluated_in_one_pass_equal_to_window_by_window(
    make_model, batches, split, windows_passed, head
):
    model, index_N = make_model(head=head, **STREAMING).train(), split.validation_N
    at_once = outputs_of(model, batches, index_N)
    assert windows_passed == []
    torch.testing.assert_close(at_once, one_by_one(model, batches, index_N), rtol=1e-4, atol=1e-5)
    assert model.training


def test_gaps_are_streamed_as_they_are_windowed(make_model, gapped):
    model, index_N = make_model(**STREAMING), np.arange(25, 60)
    at_once, apart = outputs_of(model, gapped, index_N), one_by_one(model, gapped, index_N)
    # Bars 41 and 42 are read at bar 39, from where a window that ends there reaches less far back.
    same_N = ~np.isin(index_N + 7, [41, 42])
    torch.testing.assert_close(at_once[same_N], apart[same_N], rtol=1e-4, atol=1e-5)


def test_a_long_range_is_streamed_in_pieces(make_model, batches, monkeypatch):
    model, index_N = make_model(**STREAMING), np.arange(5, 60)
    whole = outputs_of(model, batches, index_N)
    monkeypatch.setattr(passes, "CHUNK", 16)
    torch.testing.assert_close(outputs_of(model, batches, index_N), whole, rtol=1e-4, atol=1e-5)


def test_a_panel_that_is_fetched_is_streamed_too(make_model, frame, batches):
    x_BKSF = np.nan_to_num(frame.x_BKSF)
    fetched = PrefetchedBatches(frame, x_BKSF, frame.y_BKS.copy(), torch.device("cpu"))
    resident = type(batches)(frame, x_BKSF, frame.y_BKS.copy(), torch.device("cpu"))
    model, index_N = make_model(**STREAMING), np.arange(5, 60)
    assert evaluate(model, fetched, index_N) == evaluate(model, resident, index_N)


@pytest.mark.parametrize(
    ("changes", "index_N"),
    [
        (STREAMING, np.array([3, 4, 6])),
        (STREAMING, np.array([4, 3])),
        (STREAMING, np.array([4])),
        ({**STREAMING, "window": 8}, np.arange(3)),  # reaches 15 bars back, beyond the window's 8
        ({}, np.arange(3)),
    ],
)
def test_what_cannot_stream_goes_window_by_window(
    make_model, batches, windows_passed, changes, index_N
):
    if changes.get("window") == 8:  # a recipe refuses it, an older model may have it
        model = make_model(**{**changes, "n_layers": 1})
        model = FlashAttentionTrader(type(model.config)(**{**vars(model.config), "n_layers": 2}))
    else:
        model = make_model(**changes)
    outputs_of(model, batches, index_N)
    assert windows_passed == [(len(index_N), 8)]


def test_the_loss_of_an_allocation_is_that_of_the_whole_range(make_model, batches, split):
    # A Sharpe ratio over parts is not the mean of theirs, so the size of a pass must not matter.
    model, index_N = make_model(head="allocation"), split.validation_N
    y_NS = batches.labels(torch.from_numpy(index_N))
    expected = model.loss(torch.from_numpy(predict(model, batches, index_N)), y_NS).item()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "MOST_WINDOWS", 7)
        assert evaluate(model, batches, index_N) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("lookback", "size"), [(1, 256), (2048, 256), (4096, 128), (2**19, 1), (2**20, 1)]
)
def test_a_pass_holds_so_many_windows_and_bars_at_most(lookback, size):
    assert pass_size(lookback) == size


def test_attention_that_holds_every_pair_makes_passes_smaller(
    make_model, batches, windows_passed, monkeypatch
):
    monkeypatch.setattr(footprint, "SCORE_BYTES", 5 * 16 * 2 * 8**2)
    assert windows_in_a_pass(make_model(), 8, masked=False) == 256
    model = make_model(attention="reference").train()
    assert windows_in_a_pass(model, 8, masked=False) == 5
    assert model.training
    outputs_of(model, batches, np.arange(12))
    assert windows_passed == [(5, 8), (5, 8), (2, 8)]


def test_a_lack_of_memory_names_the_pass_and_a_remedy(make_model, batches, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nMore.")

    monkeypatch.setattr(FlashAttentionTrader, "last_outputs", full)
    message = (
        r"256 windows x 8 bars takes more memory than is free: .* or take another attention than "
        r"'sdpa'\. PyTorch: CUDA out of memory\. Tried to allocate 3\.00 GiB\.$"
    )
    for ask in (evaluate, predict):
        with pytest.raises(OutOfMemory, match=message):
            ask(make_model(attention="sdpa"), batches, np.arange(3))
