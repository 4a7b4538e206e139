from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.windows import SplitConfig, chronological_split, write_windows
from flash_pipeline.windows.dataset import PrefetchedBatches, WindowBatches, window_batches

CPU = torch.device("cpu")


def cut_like(panel, frame):
    """Return the windows of another panel, cut like those of a frame."""
    with TemporaryDirectory() as folder:
        return write_windows(
            panel,
            Path(folder) / "windows",
            lookback=frame.lookback,
            horizon=frame.horizon,
            stride=frame.stride,
            synthetic=True,
        )


def batches_of(frame, kind=WindowBatches):
    return kind(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS.copy(), CPU)


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


def test_batches_say_what_and_where_they_are(make_frame):
    batches = batches_of(make_frame(lookback=8, gaps=[(20,)]))
    assert batches.device == batches.home == CPU
    assert batches.resident
    assert batches.has_gaps
    assert batches.lookback == 8


@pytest.mark.parametrize("stride", [1, 5, 8])
def test_dense_labels_are_those_of_every_bar_of_a_window(make_frame, stride):
    frame = make_frame(60, stride=stride, lookback=8)
    y_NLS = batches_of(frame).batch(torch.arange(len(frame.anchor_N)), dense=True)[2].numpy()
    for earlier in range(8):
        # The bar that lies so many bars before an anchor is the anchor of an earlier window.
        np.testing.assert_array_equal(
            y_NLS[earlier:, 7 - earlier], frame.label_NS[: len(y_NLS) - earlier]
        )


def test_dense_labels_are_unknown_where_the_future_is_and_where_the_bar_is_masked(make_frame):
    frame = make_frame(60, lookback=8, horizon=2, gaps=[(20,), (30, 0)])
    newest, gap, half_gap = len(frame.anchor_N) - 1, 20 - 7, 30 - 7
    y_NLS = batches_of(frame).batch(torch.tensor([newest, gap, half_gap]), dense=True)[2]
    assert y_NLS[0].isnan().any(1).tolist() == [False] * 6 + [True] * 2
    assert y_NLS[1, 7].isnan().all()
    assert y_NLS[2, 7].isnan().tolist() == [True, False]


def test_no_dense_label_of_a_training_window_reaches_the_validation_range(make_panel, make_frame):
    frame = make_frame(200, lookback=16, stride=16, horizon=5)
    split = chronological_split(frame, SplitConfig())
    until = int(frame.made_at_N[split.validation_N[0]])
    spoiled = make_panel(200)
    closes_T = spoiled.start_time_T + spoiled.interval.milliseconds
    spoiled.close_TS[closes_T > until] *= np.random.default_rng(1).uniform(0.1, 10.0)
    other = cut_like(spoiled, frame)
    index_N = torch.from_numpy(split.train_N)
    one, two = (batches_of(each).batch(index_N, dense=True)[2] for each in (frame, other))
    assert not one.isnan().any(), "every bar of every training window teaches"
    assert one.equal(two)
    later_N = torch.from_numpy(split.validation_N)
    one, two = (batches_of(each).batch(later_N, dense=True)[2] for each in (frame, other))
    assert not one.equal(two), "the spoiled closes are seen where they may be"


def test_batches_on_a_cpu_share_one_piece_of_memory(make_frame):
    frame = make_frame(60, gaps=[(30,)])
    batches = batches_of(frame)
    parts = torch.arange(len(frame.anchor_N)).split(3)
    places = set()
    for dense in (False, True):
        for part, cut in zip(parts, batches.batches(parts, dense=dense), strict=True):
            for one, other in zip(cut, batches.batch(part, dense=dense), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
            places.add(cut[0].data_ptr())
    assert len(places) == 1


def test_a_batch_cut_in_an_evaluation_leaves_the_memory_fit_for_training(make_frame):
    batches = batches_of(make_frame(60))
    parts = [torch.arange(3)]
    with torch.inference_mode():
        next(batches.batches(parts))
    weight = torch.ones((), requires_grad=True)
    x_NLI, _, _ = next(batches.batches(parts))
    (weight * x_NLI).sum().backward()
    assert weight.grad.isfinite()


def test_a_prefetched_panel_gives_the_same_batches(make_frame):
    frame = make_frame(60, gaps=[(20,)])
    one, other = batches_of(frame), batches_of(frame, PrefetchedBatches)
    parts = torch.randperm(len(frame.anchor_N)).split(7)
    for dense in (False, True):
        for a, b in zip(
            one.batches(parts, dense=dense), other.batches(parts, dense=dense), strict=True
        ):
            assert all(x.equal(y) or x.isnan().equal(y.isnan()) for x, y in zip(a, b, strict=True))
    assert other.home == other.device == CPU


def test_a_prefetched_panel_stays_here(make_frame, monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda *_: None)
    frame = make_frame()
    cuda = torch.device("cuda")
    batches = PrefetchedBatches(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS.copy(), cuda)
    assert batches.home == CPU
    assert batches.device == cuda
    assert not batches.resident


@pytest.mark.parametrize(("free", "kind"), [(100_000, "WindowBatches"), (1000, "Prefetched")])
def test_the_panel_goes_to_the_gpu_where_it_takes_little_of_it(make_frame, monkeypatch, free, kind):
    made = []
    for name in ("WindowBatches", "PrefetchedBatches"):
        monkeypatch.setattr(
            f"flash_pipeline.windows.dataset.{name}", lambda *_, name=name: made.append(name)
        )
    frame = make_frame(60)
    window_batches(frame, frame.x_BKSF, frame.y_BKS, torch.device("cuda"), free)
    assert made[0].startswith(kind)


def test_a_cpu_holds_its_own_panel(make_frame):
    frame = make_frame()
    batches = window_batches(frame, np.nan_to_num(frame.x_BKSF), frame.y_BKS, CPU, free_bytes=0)
    assert type(batches) is WindowBatches


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_no_number_is_named_by_symbol_feature_and_time(make_frame, value):
    frame = make_frame(60, stride=5)
    x_BKSF = np.nan_to_num(frame.x_BKSF)
    x_BKSF[2, 3, 1, 0] = value  # block 2 starts at bar 10
    message = (
        rf"the scaled log_return of ETHUSDT at 2024-01-01T13:00Z is {value}: "
        "expected a finite number"
    )
    with pytest.raises(InvalidInput, match=message):
        WindowBatches(frame, x_BKSF, frame.y_BKS, CPU)


def test_a_label_that_is_infinite_is_named_by_symbol_and_time(make_frame):
    frame = make_frame(60, stride=5)
    y_BKS = frame.y_BKS.copy()
    y_BKS[2, 3, 0] = -np.inf
    message = "the label of BTCUSDT at 2024-01-01T13:00Z is -inf: expected a finite number, or"
    with pytest.raises(InvalidInput, match=message):
        WindowBatches(frame, np.nan_to_num(frame.x_BKSF), y_BKS, CPU)


@pytest.mark.parametrize("kind", [WindowBatches, PrefetchedBatches])
@pytest.mark.parametrize("gaps", [[], [(20,)]])
def test_a_series_holds_the_bars_of_consecutive_windows_once(make_frame, kind, gaps):
    batches = batches_of(make_frame(60, lookback=8, gaps=gaps), kind)
    x_TI, valid_T = batches.series(11, 5)
    x_NLI, valid_NL, y_NS = batches.batch(torch.arange(11, 16))
    assert x_TI.unfold(0, 8, 1).movedim(2, 1).equal(x_NLI)
    assert (valid_T is None) == (valid_NL is None) == (not gaps)
    if gaps:
        assert valid_T.unfold(0, 8, 1).equal(valid_NL)
    np.testing.assert_array_equal(batches.labels(torch.arange(11, 16)), y_NS)
