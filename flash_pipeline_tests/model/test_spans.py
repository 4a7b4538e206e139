"""What spans, supervision and positions promise of the whole model."""

import pytest
import torch

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.model.heads import HEADS

ROTARY = {"positions": "rotary"}
CAUSAL = {"span": "causal", **ROTARY}
SLIDING = {"span": "sliding", "window": 6, **ROTARY}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("span", [CAUSAL, SLIDING], ids=["causal", "sliding"])
def test_dense_supervision_gives_an_output_at_every_bar(make_model, bars, span, head):
    outputs_BTS = make_model(**span, supervision="dense", head=head)(bars(3, 20))
    assert outputs_BTS.shape[:3] == (3, 20, 2)
    assert outputs_BTS.dtype == torch.float32


@pytest.mark.parametrize("span", [CAUSAL, SLIDING], ids=["causal", "sliding"])
def test_the_output_of_a_bar_knows_no_later_bar(make_model, bars, span):
    model, x_BTI = make_model(**span, supervision="dense"), bars(2, 30)
    before_BTS = model(x_BTI)
    x_BTI[:, 17:] = -x_BTI[:, 17:]
    after_BTS = model(x_BTI)
    assert after_BTS[:, :17].equal(before_BTS[:, :17])
    assert not after_BTS[:, 17:].isclose(before_BTS[:, 17:]).all()


@pytest.mark.parametrize("span", [CAUSAL, SLIDING], ids=["causal", "sliding"])
def test_the_output_of_a_bar_is_the_prediction_of_the_window_that_ends_there(
    make_model, bars, span
):
    model, x_BTI = make_model(**span, supervision="dense"), bars(2, 30)
    dense_BTS = model(x_BTI)
    for end in (1, 12, 30):
        last_BS = model.last_outputs(x_BTI[:, :end])
        torch.testing.assert_close(last_BS, dense_BTS[:, end - 1], rtol=1e-4, atol=1e-6)


def test_under_a_sliding_span_bars_beyond_the_reach_change_nothing(make_model, bars):
    model, x_BTI = make_model(**SLIDING), bars(2, 40)
    assert model.config.reach == 11
    before_BS = model(x_BTI)
    x_BTI[:, : 40 - 11] = 100.0
    assert model(x_BTI).equal(before_BS)
    x_BTI[:, 40 - 11] = 100.0
    assert not model(x_BTI).equal(before_BS)


def test_rotary_positions_know_distances_alone(make_model, bars):
    model, x_BTI = make_model(**SLIDING), bars(2, 40)
    moved_BTI = torch.cat([bars(2, 23, seed=9), x_BTI], dim=1)
    torch.testing.assert_close(model(moved_BTI), model(x_BTI), rtol=1e-4, atol=1e-6)


def test_rotary_positions_have_no_longest_input(make_model, bars):
    assert make_model(**CAUSAL, max_seq_len=8)(bars(1, 30)).shape == (1, 2)


def test_absent_bars_are_neither_seen_nor_answered(make_model, bars):
    model, x_BTI = make_model(**CAUSAL, supervision="dense"), bars(2, 20)
    valid_BT = torch.arange(20) % torch.tensor([[3], [20]]) != 1
    before_BTS = model(x_BTI, valid_BT)
    assert before_BTS[~valid_BT].eq(0).all()
    x_BTI[~valid_BT] = torch.nan
    assert model(x_BTI, valid_BT).equal(before_BTS)


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_learns_under_dense_supervision(make_model, bars, head):
    model = make_model(**SLIDING, supervision="dense", head=head).train()
    x_BTI = bars(4, 30)
    model.loss(model(x_BTI), 0.01 * x_BTI[..., :2]).backward()
    # A bias of keys moves all scores of a query alike, which softmax does not see.
    assert all(p.grad is not None for p in model.parameters())
    assert model.project.weight.grad.abs().sum() > 0


def test_recomputed_activations_give_the_same_loss_and_gradients(make_model, bars):
    x_BTI, results = bars(4, 30), []
    for recompute in (False, True):
        model = make_model(**SLIDING, supervision="dense", dropout=0.3).train()
        model.recompute = recompute
        torch.manual_seed(5)
        loss = model.loss(model(x_BTI), 0.01 * x_BTI[..., :2])
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for kept, recomputed in zip(*results, strict=True):
        assert recomputed.equal(kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"span": "sliding"}, "window is None under span 'sliding'"),
        ({"window": 5}, "window is 5 under span 'full'"),
        ({"span": "sliding", "window": 0}, "window is 0: expected an integer of at least 1"),
        ({"supervision": "dense"}, "expected a causal or sliding span and rotary positions"),
        ({"supervision": "dense", "span": "causal"}, "and learned positions: expected a causal"),
        ({"positions": "rotary", "d_model": 6}, "the head size is 3: rotary positions expect"),
        ({"span": "banded"}, "span is 'banded': expected one of full causal sliding"),
        ({"positions": "alibi"}, "positions is 'alibi': expected one of learned rotary"),
        ({"supervision": "some"}, "supervision is 'some': expected one of last dense"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(tiny, changes, message):
    with pytest.raises(InvalidConfig, match=message):
        tiny(**changes)
