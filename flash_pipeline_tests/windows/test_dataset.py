import numpy as np
import pytest
import torch

from flash_pipeline.windows.dataset import WindowBatches

CPU = torch.device("cpu")


def batches_of(frame):
    return WindowBatches(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS.copy(), CPU)


@pytest.mark.parametrize("stride", [1, 5, 8])
def test_a_batch_is_that_of_the_frame_with_its_labels(make_frame, stride):
    frame = make_frame(60, stride=stride, gaps=[(20, 0), (30,)])
    index_N = np.random.default_rng(0).permutation(len(frame.anchor_N))
    x_NLI, _, y_NS = batches_of(frame).batch(torch.from_numpy(index_N))
    np.testing.assert_array_equal(x_NLI.numpy(), np.nan_to_num(frame.batch(index_N)))
    np.testing.assert_array_equal(y_NS.numpy(), frame.label_NS[index_N])


def test_a_panel_without_gaps_needs_no_mask(make_frame):
    _, valid_NL, _ = batches_of(make_frame(61)).batch(torch.arange(3))
    assert valid_NL is None


def test_a_bar_that_one_symbol_lacks_needs_no_mask(make_frame):
    _, valid_NL, _ = batches_of(make_frame(60, gaps=[(20, 0)])).batch(torch.arange(30))
    assert valid_NL is None


def test_a_bar_that_every_symbol_lacks_is_masked(make_frame):
    frame = make_frame(60, lookback=8, gaps=[(20,)])
    _, valid_NL, _ = batches_of(frame).batch(torch.tensor([12, 13, 20, 21]))
    expected_NL = torch.ones(4, 8, dtype=torch.bool)
    expected_NL[1, 7] = expected_NL[2, 0] = False
    assert valid_NL.tolist()[0] == [True] * 8
    assert valid_NL.equal(expected_NL)


def test_batches_say_where_they_are(make_frame):
    assert batches_of(make_frame()).device == CPU
