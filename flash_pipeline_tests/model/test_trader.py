"""Shape letters: B batch rows, T bars, I inputs per bar, S symbols."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from flash_pipeline.errors import AttentionUnsupported, InvalidInput
from flash_pipeline.model.attention import BackendChoice
from flash_pipeline.model.blocks import Context
from flash_pipeline.model.heads import HEADS
from flash_pipeline.model.trader import FlashAttentionTrader, last_valid, needed_mask


def padded_on_the_left(x_BTI, n_bars, fill=math.nan):
    """Return the same bars after `n_bars` absent ones, and which are valid."""
    padding = torch.full((len(x_BTI), n_bars, x_BTI.shape[2]), fill)
    valid_BT = torch.ones(len(x_BTI), n_bars + x_BTI.shape[1], dtype=torch.bool)
    valid_BT[:, :n_bars] = False
    return torch.cat([padding, x_BTI], 1), valid_BT


class Contended(FlashAttentionTrader):
    """Stands for a model that several threads ask: what it noted is not there a moment later."""

    _choice = property(lambda _: None, lambda *_: None)


def test_what_another_thread_chose_meanwhile_changes_nothing(make_model, bars):
    model, x_BTI = make_model().eval(), bars(2, 10)
    shared = Contended(model.config).eval()
    shared.load_state_dict(model.state_dict())
    for given in ((x_BTI, None), padded_on_the_left(x_BTI, 3)):
        assert shared(*given).equal(model(*given))
        assert shared.last_outputs(*given).equal(model.last_outputs(*given))


@pytest.mark.parametrize("n_bars", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("head", HEADS)
def test_a_window_of_any_length_gives_one_float32_output_per_symbol(make_model, bars, head, n_bars):
    outputs_BS = make_model(head=head)(bars(3, n_bars))
    assert outputs_BS.shape[:2] == (3, 2)
    assert outputs_BS.dtype == torch.float32


@pytest.mark.parametrize("extra", [20, 53])
def test_left_padding_changes_no_bit_within_one_padded_length(make_model, bars, extra):
    model, x_BTI = make_model(), bars(2, 10)
    masked_BS = model(*padded_on_the_left(x_BTI, 1))
    assert model(*padded_on_the_left(x_BTI, extra)).equal(masked_BS)


@pytest.mark.parametrize("n_bars", [1, 63, 64, 100])
@pytest.mark.parametrize("span", [{}, {"span": "causal"}, {"span": "sliding", "window": 9}])
def test_nothing_is_padded_or_masked_where_no_bar_is_absent(make_model, bars, n_bars, span):
    model = make_model(**span)
    h_BPC, mask_BP = model.embed(bars(2, n_bars), None)
    assert h_BPC.shape[1] == n_bars
    assert mask_BP is None
    assert model.choose_attention(n_bars, has_mask=False).reason.startswith("the fused kernels")


@pytest.mark.parametrize(("n_bars", "length"), [(1, 64), (63, 64), (64, 64), (100, 128)])
def test_a_mask_of_the_full_span_is_aligned_to_the_right_end(make_model, bars, n_bars, length):
    model = make_model()
    valid_BT = torch.ones(2, n_bars, dtype=torch.bool)
    valid_BT[1, 0] = False
    h_BPC, mask_BP = model.embed(bars(2, n_bars), valid_BT)
    assert h_BPC.shape[1] == mask_BP.shape[1] == length
    assert mask_BP[:, length - n_bars :].equal(valid_BT)
    assert not mask_BP[:, : length - n_bars].any()
    plain_BPC, _ = model.embed(bars(2, n_bars), None)
    torch.testing.assert_close(h_BPC[0, length - n_bars :], plain_BPC[0])
    assert model.attention_call(n_bars, has_mask=True).length == length


def test_attention_is_chosen_by_the_deterministic_mode_of_the_moment(make_model):
    model = make_model()
    assert not model.attention_call(64, has_mask=False).deterministic
    torch.use_deterministic_algorithms(True)
    try:
        assert model.attention_call(64, has_mask=False).deterministic
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(("n_bars", "extra"), [(10, 1), (10, 55), (64, 1), (100, 50), (128, 22)])
def test_left_padding_changes_no_more_than_rounding(make_model, bars, n_bars, extra):
    model, x_BTI = make_model(), bars(2, n_bars)
    exact_BS = model.double()(x_BTI.double())
    model.float()
    allowed = 2 * (model(x_BTI) - exact_BS).abs().max() + 1e-6
    padded_BS = model(*padded_on_the_left(x_BTI, extra))
    assert (padded_BS - exact_BS).abs().max() <= allowed


def test_the_last_bar_has_the_same_position_at_every_length(make_model):
    model = make_model()
    one_BPC, _ = model.embed(torch.zeros(1, 1, 6), None)
    many_BPC, _ = model.embed(torch.zeros(1, 100, 6), None)
    assert one_BPC[0, -1].equal(many_BPC[0, -1])
    assert one_BPC[0, -1].equal(model.positions[-1] + model.project.bias)


def test_order_matters(make_model, bars):
    model, x_BTI = make_model(), bars(1, 20)
    assert not model(x_BTI).allclose(model(x_BTI[:, torch.randperm(20)]))


def test_a_mask_that_hides_nothing_is_no_mask(make_model, bars):
    model, x_BTI = make_model(), bars(2, 64)
    outputs_BS = model(x_BTI)
    assert model(x_BTI, torch.ones(2, 64, dtype=torch.bool)).equal(outputs_BS)
    assert needed_mask(torch.ones(2, 64, dtype=torch.bool)) is None


def test_what_absent_bars_hold_changes_no_output_and_no_gradient(make_model, bars):
    model, x_BTI = make_model(), bars(2, 64)
    valid_BT = torch.ones(2, 64, dtype=torch.bool)
    valid_BT[0, :30] = False
    valid_BT[1, 10:13] = False
    results = []
    for fill in (0.0, math.nan, math.inf):
        model.zero_grad()
        outputs_BS = model(x_BTI.masked_fill(~valid_BT[:, :, None], fill), valid_BT)
        outputs_BS.sum().backward()
        results.append([outputs_BS, *(p.grad.clone() for p in model.parameters())])
    for result in results[1:]:
        assert all(a.equal(b) for a, b in zip(results[0], result, strict=True))


def test_the_last_valid_bar_is_read(make_model, bars):
    model, x_BTI = make_model(), bars(2, 64)
    valid_BT = torch.ones(2, 64, dtype=torch.bool)
    valid_BT[1, 40:] = False
    read, streams = [], []
    model.norm.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model.blocks[-1].register_forward_hook(lambda _, __, output: streams.append(output))
    model(x_BTI, valid_BT)
    assert read[0][0].equal(streams[0][0, 63])
    assert read[0][1].equal(streams[0][1, 39])


def test_last_valid_finds_the_last_true():
    mask_BT = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert last_valid(mask_BT).tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize(
    ("head", "neutral"), [("regression", 0.0), ("direction", 0.5), ("allocation", 0.0)]
)
def test_a_row_without_a_valid_bar_gets_the_neutral_answer(make_model, bars, head, neutral):
    model = make_model(head=head)
    model.head.linear.bias.data.fill_(3.0)
    valid_BT = torch.ones(2, 20, dtype=torch.bool)
    valid_BT[1] = False
    predictions_BS = model.predict(bars(2, 20), valid_BT)
    assert predictions_BS[1].tolist() == [neutral, neutral]
    assert not predictions_BS[0].eq(neutral).any()


def test_rows_of_a_batch_do_not_see_each_other(make_model, bars):
    model, x_BTI = make_model(), bars(4, 64)
    valid_BT = torch.ones(4, 64, dtype=torch.bool)
    valid_BT[2, :50] = False
    valid_BT[3] = False
    together_BS = model(x_BTI, valid_BT)
    alone_BS = torch.cat([model(x_BTI[b : b + 1], valid_BT[b : b + 1]) for b in range(4)])
    torch.testing.assert_close(together_BS, alone_BS)


@pytest.mark.parametrize("n_bars", [50, 64])
def test_backends_agree(make_model, bars, n_bars):
    x_BTI = bars(2, n_bars)
    torch.testing.assert_close(
        make_model(attention="sdpa")(x_BTI), make_model(attention="reference")(x_BTI)
    )


def test_dropout_acts_in_training_and_is_off_in_evaluation(make_model, bars):
    model, x_BTI = make_model(dropout=0.5), bars(2, 64)
    assert model(x_BTI).equal(model(x_BTI))
    model.train()
    assert not model(x_BTI).allclose(model(x_BTI))


def test_predict_is_without_dropout_and_leaves_the_training_mode(make_model, bars):
    model, x_BTI = make_model(dropout=0.5), bars(2, 64)
    expected_BS = model(x_BTI)
    model.train()
    predictions_BS = model.predict(x_BTI)
    assert predictions_BS.equal(expected_BS)
    assert not predictions_BS.requires_grad
    assert model.training


def test_attention_weights_are_dropped_in_training(make_model, bars):
    model = make_model(dropout=0.9)
    attention = model.blocks[0].attention.train()
    h_BTC = torch.randn(1, 64, 16)
    first_BTC, second_BTC = (attention(h_BTC, Context(None, None, "sdpa")) for _ in range(2))
    assert not first_BTC.allclose(second_BTC)


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_learns(make_model, bars, head):
    model = make_model(head=head).train()
    targets_BS = torch.tensor([[0.01, -0.02], [math.nan, 0.03]])
    model.loss(model(bars(2, 150)), targets_BS).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("head", HEADS)
def test_a_few_steps_lower_the_loss(make_model, bars, head):
    model, x_BTI = make_model(head=head, dropout=0.0).train(), bars(8, 20)
    targets_BS = x_BTI[:, -1, :2] * 0.02
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = model.loss(model(x_BTI), targets_BS)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_model_starts_near_the_neutral_answer(tiny, bars):
    torch.manual_seed(0)
    model = FlashAttentionTrader(tiny())
    assert model.predict(bars(16, 64)).abs().max() < 0.1
    assert model.blocks[0].mlp[0].bias.eq(0).all()


def test_queries_keys_and_values_start_as_three_xavier_matrices(tiny):
    torch.manual_seed(0)
    weight = FlashAttentionTrader(tiny(d_model=64)).blocks[0].attention.qkv.weight
    bound = math.sqrt(6 / (64 + 64))
    for part in weight.chunk(3):
        assert 0.99 * bound < part.abs().max() <= bound


def test_a_model_survives_safetensors(make_model, bars, tmp_path, tiny):
    model, x_BTI = make_model(), bars(2, 50)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    restored = FlashAttentionTrader(tiny()).eval()
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert restored(x_BTI).equal(model(x_BTI))


def test_the_number_of_parameters_is_that_of_the_layers(make_model):
    attention = 16 * 48 + 48 + 16 * 16 + 16
    mlp = 16 * 32 + 32 + 32 * 16 + 16
    norms = 2 * 2 * 16
    ends = (6 * 16 + 16) + 150 * 16 + 2 * 16 + (16 * 2 + 2)
    assert make_model().n_parameters == 2 * (attention + mlp + norms) + ends


def test_the_choice_of_attention_is_reported_before_and_after_a_pass(make_model, bars):
    model = make_model()
    assert model.attention_choice.name == "sdpa"
    assert "the device is cpu" in model.attention_choice.reason
    model.announce(BackendChoice("tiled", "by hand", "chosen by a caller of run"))
    assert model.attention_choice.name == "tiled"
    model(bars(1, 64))
    assert model.attention_choice.name == "sdpa"


def test_a_backend_that_cannot_run_here_is_refused_and_not_replaced(make_model, bars):
    with pytest.raises(AttentionUnsupported, match=r"flash_attn was asked for, but the dtype"):
        make_model(attention="flash_attn")(bars(1, 64))


def test_outputs_and_losses_are_float32_under_autocast(make_model, bars):
    model, x_BTI = make_model(), bars(2, 50)
    exact_BS = model(x_BTI)
    with torch.autocast("cpu", torch.bfloat16):
        outputs_BS = model(x_BTI)
        loss = model.loss(outputs_BS, torch.zeros(2, 2))
    assert outputs_BS.dtype == loss.dtype == torch.float32
    assert not outputs_BS.equal(exact_BS)
    torch.testing.assert_close(outputs_BS, exact_BS, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("x_BTI", "valid_BT", "message"),
    [
        (torch.zeros(1, 151, 6), None, r"151 bars: expected 1 to max_seq_len, 150"),
        (torch.zeros(1, 0, 6), None, r"0 bars: expected 1 to max_seq_len, 150"),
        (torch.zeros(1, 10, 7), None, r"\(1, 10, 7\): expected \[rows, bars, 6\]"),
        (torch.zeros(10, 6), None, r"\(10, 6\): expected \[rows, bars, 6\]"),
        (torch.zeros(1, 10, 6).double(), None, r"torch\.float64: expected .* torch\.float32"),
        (torch.zeros(1, 10, 6), torch.ones(1, 10), r"valid is torch\.float32"),
        (torch.zeros(1, 10, 6), torch.ones(1, 9).bool(), r"expected torch\.bool of the shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(make_model, x_BTI, valid_BT, message):
    with pytest.raises(InvalidInput, match=message):
        make_model()(x_BTI, valid_BT)
