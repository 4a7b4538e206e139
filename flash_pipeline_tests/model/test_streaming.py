import pytest
import torch

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.model.captured_stream import CapturedStream
from flash_pipeline.model.streaming import stream, stream_windows

SLIDING = {"span": "sliding", "window": 6, "positions": "rotary", "supervision": "dense"}
REACH = 2 * 5 + 1


@pytest.fixture
def model(make_model):
    return make_model(**SLIDING)


def window_by_window(model, x_TI, valid_T=None, lookback=REACH):
    """Return the prediction of every bar from a window of its own."""
    outputs = []
    for end in range(1, len(x_TI) + 1):
        span = slice(max(0, end - lookback), end)
        mask_1T = None if valid_T is None else valid_T[None, span]
        outputs.append(model.last_outputs(x_TI[None, span], mask_1T))
    return torch.cat(outputs).detach()


@pytest.mark.parametrize("lookback", [REACH, REACH + 1, 40])
def test_one_pass_gives_the_predictions_of_every_bars_own_window(model, bars, lookback):
    x_TI = bars(1, 60)[0]
    exact_TS = window_by_window(model, x_TI, lookback=lookback)
    torch.testing.assert_close(stream(model, x_TI), exact_TS, rtol=1e-4, atol=1e-5)


def test_a_window_shorter_than_the_reach_gives_other_predictions(model, bars):
    x_TI = bars(1, 60)[0]
    short_TS = window_by_window(model, x_TI, lookback=REACH - 4)
    assert not torch.allclose(stream(model, x_TI)[30:], short_TS[30:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 59, 60, 1000])
def test_chunks_change_nothing_but_rounding(model, bars, chunk):
    x_TI = bars(1, 60)[0]
    whole_TS = stream(model, x_TI)
    torch.testing.assert_close(stream(model, x_TI, chunk=chunk), whole_TS, rtol=1e-4, atol=1e-5)


def test_absent_bars_are_neither_seen_nor_answered(model, bars):
    x_TI = bars(1, 40)[0]
    valid_T = torch.arange(40) % 7 != 3
    outputs_TS = stream(model, x_TI, valid_T, chunk=9)
    torch.testing.assert_close(
        outputs_TS[valid_T], window_by_window(model, x_TI, valid_T)[valid_T], rtol=1e-4, atol=1e-5
    )
    assert outputs_TS[~valid_T].eq(0).all()
    x_TI[~valid_T] = torch.nan
    assert stream(model, x_TI, valid_T, chunk=9).equal(outputs_TS)


def test_only_passes_over_absent_bars_run_with_a_mask(model, bars, monkeypatch):
    asked, choose = [], model.choose_attention

    def recorded(length, has_mask):
        asked.append(has_mask)
        return choose(length, has_mask)

    x_TI, valid_T = bars(1, 60)[0], torch.ones(60, dtype=torch.bool)
    monkeypatch.setattr(model, "choose_attention", recorded)
    plain_TS = stream(model, x_TI, chunk=20)
    assert stream(model, x_TI, valid_T, chunk=20).equal(plain_TS)
    assert asked == [False] * 6
    asked.clear()
    valid_T[5] = False
    stream(model, x_TI, valid_T, chunk=20)
    assert asked == [True, False, False]


def test_a_window_that_ends_with_absent_bars_is_read_at_its_last_valid_one(model, bars):
    x_TI = bars(1, 40)[0]
    valid_T = torch.ones(40, dtype=torch.bool)
    valid_T[:3] = valid_T[20:22] = valid_T[25:38] = False
    outputs_TS = stream_windows(model, x_TI, valid_T, lookback=REACH)
    assert outputs_TS[:3].eq(0).all()
    assert outputs_TS[21].equal(outputs_TS[19])
    assert outputs_TS[24 + REACH - 1].equal(outputs_TS[24])
    assert outputs_TS[24 + REACH : 38].eq(0).all()
    exact_TS = window_by_window(model, x_TI, valid_T)
    torch.testing.assert_close(outputs_TS[valid_T], exact_TS[valid_T], rtol=1e-4, atol=1e-5)


def test_changing_the_future_changes_no_earlier_output(model, bars):
    x_TI = bars(1, 40)[0]
    before_TS = stream(model, x_TI)
    x_TI[25:] = 1e3
    after_TS = stream(model, x_TI)
    assert after_TS[:25].equal(before_TS[:25])
    assert not after_TS[25:].isclose(before_TS[25:]).any()


def test_the_attention_of_a_stream_is_on_record(model, bars):
    stream(model, bars(1, 30)[0])
    assert model.attention_choice == model.choose_attention(30, has_mask=False)
    assert "at 30 bars" in model.attention_choice.reason or model.attention_choice.name == "sdpa"


def test_a_graph_needs_a_cuda_device_and_a_model_that_streams(model, make_model):
    with pytest.raises(InvalidConfig, match="the model is on cpu: expected a CUDA device"):
        CapturedStream(model, 40)
    with pytest.raises(InvalidConfig, match="cannot stream"):
        CapturedStream(make_model(), 40)


def test_memory_is_bounded_by_the_chunk(model, bars):
    # The largest input that the blocks see is a chunk and its reach, whatever the series.
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    stream(model, bars(1, 150)[0], chunk=20)
    assert max(seen) == 20 + REACH - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"span": "causal", "positions": "rotary"},
        {"span": "sliding", "window": 6},
        {"span": "full"},
    ],
)
def test_a_model_that_depends_on_where_its_window_begins_is_refused(make_model, bars, changes):
    with pytest.raises(InvalidConfig, match="cannot stream: expected a sliding span and rotary"):
        stream(make_model(**changes), bars(1, 10)[0])


def test_inputs_that_do_not_fit_are_refused(model, bars):
    with pytest.raises(InvalidInput, match="chunk is 0"):
        stream(model, bars(1, 10)[0], chunk=0)
    with pytest.raises(InvalidInput, match=r"expected \[rows, bars, 6\]"):
        stream(model, bars(1, 10)[0][:, :5])
