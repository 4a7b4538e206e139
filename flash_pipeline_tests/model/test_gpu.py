"""The kernels on a GPU, each held against exact attention at twice PyTorch's own error.

Needs torch, numpy, safetensors and pytest only, and shares nothing with the other tests, so that
it runs alone on a machine without the rest of the pipeline.

Shape letters: B batch rows, T bars, H heads, D head size, I inputs per bar, S symbols.
"""

import math
import warnings

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported
from flash_pipeline.model import ModelConfig, blocks
from flash_pipeline.model.analysis import full_attention, last_query_attention
from flash_pipeline.model.attention import attend, choose_backend
from flash_pipeline.model.heads import HEADS
from flash_pipeline.model.refusals import BACKENDS, AttentionCall, refusal
from flash_pipeline.model.streaming import stream
from flash_pipeline.model.trader import FlashAttentionTrader

DEVICE = "cuda"
FUSED = [name for name in BACKENDS if name not in ("reference", "tiled")]
SPANS = {
    "full": {},
    "causal": {"causal": True},
    "sliding": {"causal": True, "window": 70},
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _quiet_compilers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def skip_unless_honoured(backend, shape, dtype, masked=False, dropout=False, **span):
    call = AttentionCall(
        torch.device(DEVICE),
        dtype,
        shape[3],
        shape[1],
        masked,
        span.get("causal", False),
        span.get("window"),
        dropout,
    )
    reason = refusal(backend, call)
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")


def left_padding(n_bars):
    """Return the mask of a full row, a padded one and an empty one."""
    starts_B1 = torch.tensor([[0], [n_bars // 3], [n_bars]], device=DEVICE)
    return torch.arange(n_bars, device=DEVICE) >= starts_B1


def plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, causal=False, window=None):
    """Compute attention by PyTorch's own operations, in the dtype of the inputs."""
    n_bars = q_BTHD.shape[1]
    seen_B1TT = torch.ones(1, 1, n_bars, n_bars, dtype=torch.bool, device=DEVICE)
    if causal:
        seen_B1TT = seen_B1TT.tril().triu(1 - (window or n_bars))
    if mask_BT is not None:
        seen_B1TT = seen_B1TT & mask_BT[:, None, :, None] & mask_BT[:, None, None, :]
    scores_BHTT = torch.einsum("bthd,bshd->bhts", q_BTHD / math.sqrt(q_BTHD.shape[-1]), k_BTHD)
    scores_BHTT = scores_BHTT.masked_fill(~seen_B1TT, torch.finfo(scores_BHTT.dtype).min)
    weights_BHTT = scores_BHTT.softmax(-1).masked_fill(~seen_B1TT, 0.0)
    return torch.einsum("bhts,bshd->bthd", weights_BHTT, v_BTHD)


def draw(shape, dtype, n_tensors):
    generator = torch.Generator(DEVICE).manual_seed(3)
    return [
        torch.randn(shape, generator=generator, device=DEVICE).to(dtype) for _ in range(n_tensors)
    ]


def output_and_gradients(attention, tensors):
    *qkv, pull_BTHD = tensors
    qkv = [x.detach().requires_grad_() for x in qkv]
    o_BTHD = attention(*qkv)
    gradients = torch.autograd.grad(o_BTHD, qkv, pull_BTHD)
    return [x.detach().float() for x in (o_BTHD, *gradients)]


def hold_against_plain(backend, shape, dtype, mask_BT, **span):
    skip_unless_honoured(backend, shape, dtype, mask_BT is not None, **span)

    def plain(q_BTHD, k_BTHD, v_BTHD):
        return plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, **span)

    def ours(q_BTHD, k_BTHD, v_BTHD):
        return attend(q_BTHD, k_BTHD, v_BTHD, key_mask_BT=mask_BT, **span, backend=backend)

    narrow = draw(shape, dtype, 4)
    exact_xs = output_and_gradients(plain, [x.float() for x in narrow])
    plain_xs = output_and_gradients(plain, narrow)
    our_xs = output_and_gradients(ours, narrow)
    for name, exact_x, plain_x, our_x in zip("oqkv", exact_xs, plain_xs, our_xs, strict=True):
        # The exact result rounded once must pass too: the plain error may be small by luck.
        rounding = (exact_x.to(dtype).float() - exact_x).abs().max()
        allowed = 2 * max((plain_x - exact_x).abs().max(), rounding)
        assert (our_x - exact_x).abs().max() <= allowed, name


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("head_size", [16, 32, 64, 128])
@pytest.mark.parametrize("n_bars", [128, 500, 2048])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_and_gradients_are_as_close_to_exact_as_plain_bfloat16(
    backend, n_bars, head_size, span, masked
):
    mask_BT = left_padding(n_bars) if masked else None
    shape = (3 if masked else 2, n_bars, 4, head_size)
    hold_against_plain(backend, shape, torch.bfloat16, mask_BT, **SPANS[span])


@pytest.mark.parametrize("backend", BACKENDS)
def test_float16_is_as_close_to_exact_as_plain_float16(backend):
    hold_against_plain(backend, (3, 256, 4, 64), torch.float16, left_padding(256))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_with_gaps_is_honoured(backend):
    mask_BT = torch.arange(256, device=DEVICE) % torch.tensor([[2], [3], [5]], device=DEVICE) != 0
    hold_against_plain(backend, (3, 256, 4, 64), torch.bfloat16, mask_BT)


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_rows_give_zeros_and_zero_gradients(backend, span):
    skip_unless_honoured(backend, (2, 128, 4, 64), torch.bfloat16, masked=True, **SPANS[span])
    mask_BT = torch.zeros(2, 128, dtype=torch.bool, device=DEVICE)
    results = output_and_gradients(
        lambda q, k, v: attend(q, k, v, key_mask_BT=mask_BT, **SPANS[span], backend=backend),
        draw((2, 128, 4, 64), torch.bfloat16, 4),
    )
    assert all(x.eq(0).all() for x in results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_drops_weights_and_keeps_the_mean(backend):
    skip_unless_honoured(backend, (2, 256, 4, 64), torch.bfloat16, dropout=True)
    torch.manual_seed(0)
    q_BTHD = torch.zeros(2, 256, 4, 64, dtype=torch.bfloat16, device=DEVICE)
    o_BTHD = attend(q_BTHD, q_BTHD, torch.ones_like(q_BTHD), dropout_p=0.5, backend=backend)
    assert o_BTHD.float().std() > 0
    assert o_BTHD.float().mean().item() == pytest.approx(1.0, abs=0.05)


def test_flash_attn_refuses_float32_on_a_gpu():
    with pytest.raises(AttentionUnsupported, match=r"torch\.float32: expected torch\.float16"):
        attend(*draw((1, 128, 4, 64), torch.float32, 3), backend="flash_attn")


def make_model(attention, **changes):
    fields = {"d_model": 256, "n_heads": 4, "n_layers": 2, "d_ff": 512, "dropout": 0.0}
    torch.manual_seed(0)
    model = FlashAttentionTrader(
        ModelConfig(n_symbols=5, n_features=6, attention=attention, **{**fields, **changes})
    )
    torch.nn.init.xavier_uniform_(model.head.linear.weight)
    return model.to(DEVICE).eval()


def bfloat16():
    return torch.autocast(DEVICE, torch.bfloat16)


def rms(x):
    return x.float().square().mean().sqrt()


def outputs_and_gradients(model, x_BTI, valid_BT):
    outputs_BS = model(x_BTI, valid_BT)
    model.zero_grad()
    outputs_BS.square().mean().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
    return outputs_BS.detach(), gradients


@pytest.mark.parametrize(
    ("n_bars", "masked"), [(256, False), (256, True), (200, False), (2048, False), (2048, True)]
)
@pytest.mark.parametrize("backend", FUSED)
def test_the_whole_model_is_as_close_to_float32_as_with_reference_attention(
    backend, n_bars, masked
):
    skip_unless_honoured(backend, (3, n_bars, 4, 64), torch.bfloat16, masked)
    (x_BTI,) = draw((3, n_bars, 30), torch.float32, 1)
    valid_BT = left_padding(n_bars) if masked else None
    exact = outputs_and_gradients(make_model("reference"), x_BTI, valid_BT)
    with bfloat16():
        reference = outputs_and_gradients(make_model("reference"), x_BTI, valid_BT)
        model = make_model(backend)
        fused = outputs_and_gradients(model, x_BTI, valid_BT)
    assert model.attention_choice.name == backend
    for exact_x, reference_x, fused_x in zip(exact, reference, fused, strict=True):
        assert rms(fused_x - exact_x) <= 2 * rms(reference_x - exact_x)


def test_queries_arrive_in_bfloat16_and_outputs_leave_in_float32(monkeypatch):
    seen = []

    def spy(q_BTHD, k_BTHD, v_BTHD, **arguments):
        seen.extend(x.dtype for x in (q_BTHD, k_BTHD, v_BTHD))
        return attend(q_BTHD, k_BTHD, v_BTHD, **arguments)

    monkeypatch.setattr(blocks, "attend", spy)
    with bfloat16():
        outputs_BS = make_model("auto")(*draw((2, 128, 30), torch.float32, 1))
    assert set(seen) == {torch.bfloat16}
    assert outputs_BS.dtype == torch.float32


@pytest.mark.parametrize("n_bars", [128, 100])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backend", ["flash_attn", "sdpa", "reference", "auto"])
def test_training_steps_lower_the_loss(backend, head, n_bars):
    if backend != "auto":
        skip_unless_honoured(backend, (16, n_bars, 4, 64), torch.bfloat16, dropout=True)
    model = make_model(backend, head=head, dropout=0.1).train()
    (x_BTI,) = draw((16, n_bars, 30), torch.float32, 1)
    targets_BS = x_BTI[:, -1, ::6] * 0.02
    targets_BS[0, 0] = math.nan
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        with bfloat16():
            loss = model.loss(model(x_BTI), targets_BS)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(math.isfinite(loss) for loss in losses)
    assert min(losses[-5:]) < losses[0]


def test_auto_takes_a_fused_kernel_and_says_why():
    model = make_model("auto", span="causal")
    (x_BTI,) = draw((2, 128, 30), torch.float32, 1)
    with bfloat16():
        model(x_BTI)
    assert model.attention_choice.name in FUSED
    assert "the fastest measured at 128 bars" in model.attention_choice.reason


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_auto_honours_masks_and_dropout_and_says_by_which_order(span, masked, dropout_p):
    if not (masked or dropout_p):
        pytest.skip("that is by the table")
    *qkv, pull_BTHD = draw((3, 256, 4, 64), torch.bfloat16, 4)
    q_BTHD, k_BTHD, v_BTHD = (x.requires_grad_() for x in qkv)
    mask_BT = left_padding(256) if masked else None
    call = AttentionCall.of(
        q_BTHD,
        masked,
        causal=span != "full",
        window=SPANS[span].get("window"),
        dropout=dropout_p > 0,
    )
    choice = choose_backend(call)
    expected = "under a mask" if masked else "under dropout"
    assert choice.reason.startswith(f"by the order {expected} at 256 bars")
    if not (masked and span == "sliding") and refusal("flash_attn", call) is None:
        assert choice.name == "flash_attn"
    o_BTHD = attend(
        q_BTHD,
        k_BTHD,
        v_BTHD,
        key_mask_BT=mask_BT,
        dropout_p=dropout_p,
        **SPANS[span],
        backend=choice,
    )
    gradients = torch.autograd.grad(o_BTHD, (q_BTHD, k_BTHD, v_BTHD), pull_BTHD)
    assert all(x.isfinite().all() for x in (o_BTHD, *gradients))


@pytest.mark.parametrize("span", SPANS)
def test_auto_repeats_its_gradients_bit_by_bit_where_torch_is_deterministic(span):
    operands = draw((2, 1024, 4, 64), torch.bfloat16, 4)
    torch.use_deterministic_algorithms(True)
    try:
        one, other = (
            output_and_gradients(
                lambda q, k, v: attend(q, k, v, **SPANS[span], backend="auto"), operands
            )
            for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_flex_stays_fused_over_more_shapes_than_pytorch_compiles_by_itself():
    skip_unless_honoured("flex", (1, 8192, 4, 64), torch.bfloat16, causal=True, window=70)
    for n_bars in (*range(128, 1408, 128), 8192):  # eleven lengths, the longest one last
        q_BTHD, k_BTHD, v_BTHD = draw((1, n_bars, 4, 64), torch.bfloat16, 3)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        attend(q_BTHD, k_BTHD, v_BTHD, causal=True, window=70, backend="flex")
    matrix_bytes = 4 * 8192**2 * 2
    assert torch.cuda.max_memory_allocated() - before < matrix_bytes / 4


def test_auto_takes_sdpa_for_float32_and_says_why():
    model = make_model("auto")
    model(*draw((2, 128, 30), torch.float32, 1))
    assert model.attention_choice.name == "sdpa"
    assert "the dtype is torch.float32" in model.attention_choice.reason


STREAMING = {"span": "sliding", "window": 40, "positions": "rotary", "supervision": "dense"}


@pytest.mark.parametrize("backend", ["flash_attn", "flash_attn_4", "flex", "sdpa", "auto"])
def test_one_pass_gives_the_predictions_of_every_bars_own_window(backend):
    if backend != "auto":
        skip_unless_honoured(backend, (1, 700, 4, 64), torch.bfloat16, causal=True, window=40)
    model = make_model(backend, **STREAMING)
    exact_model = make_model("reference", **STREAMING)
    (x_TI,) = draw((700, 30), torch.float32, 1)
    windows_BTI = x_TI.unfold(0, 128, 1).movedim(2, 1)
    exact_BS = exact_model.predict(windows_BTI)
    with bfloat16():
        narrow_BS = exact_model.predict(windows_BTI)
        streamed_TS = stream(model, x_TI, chunk=256)
    assert rms(streamed_TS[127:] - exact_BS) <= 2 * rms(narrow_BS - exact_BS)


@pytest.mark.parametrize("backend", ["flash_attn", "flash_attn_4"])
def test_a_backend_compiles_to_the_same_loss_and_gradients(backend):
    skip_unless_honoured(backend, (4, 256, 4, 64), torch.bfloat16, causal=True, window=40)
    model = make_model(backend, **STREAMING).train()
    (x_BTI,) = draw((4, 256, 30), torch.float32, 1)
    with bfloat16():
        choice = model.choose_attention(256, has_mask=False)

    def loss(x_BTI):
        with bfloat16():
            return model.run(x_BTI, None, choice, every_bar=True).square().mean()

    results = []
    for function in (loss, torch.compile(loss, dynamic=False)):
        model.zero_grad()
        value = function(x_BTI)
        value.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        results.append((value.detach(), gradients))
    (plain, plain_gradients), (compiled, compiled_gradients) = results
    torch.testing.assert_close(compiled, plain, rtol=0.02, atol=0)
    assert rms(compiled_gradients - plain_gradients) <= 0.03 * rms(plain_gradients)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", ["flash_attn", "sdpa"])
def test_the_last_query_beside_the_fast_path_is_as_exact_as_the_full_matrix(backend, masked):
    skip_unless_honoured(backend, (3, 256, 4, 64), torch.bfloat16, masked)
    (x_BTI,) = draw((3, 256, 30), torch.float32, 1)
    valid_BT = left_padding(256) if masked else None
    exact_LBHT = full_attention(make_model("reference"), x_BTI, valid_BT)[..., -1, :]
    with bfloat16():
        full_LBHT = full_attention(make_model("reference"), x_BTI, valid_BT)[..., -1, :]
        last_LBHT = last_query_attention(make_model(backend), x_BTI, valid_BT)
    assert rms(last_LBHT - exact_LBHT) <= 2 * rms(full_LBHT - exact_LBHT)


@pytest.mark.parametrize("backend", ["flash_attn", "sdpa"])
def test_the_last_query_forms_no_matrix(backend):
    n_bars = 8192
    skip_unless_honoured(backend, (1, n_bars, 4, 64), torch.bfloat16)
    model = make_model(backend, max_seq_len=n_bars)
    (x_BTI,) = draw((1, n_bars, 30), torch.float32, 1)
    matrix_bytes = model.config.n_heads * n_bars**2 * 2
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with bfloat16():
        last_query_attention(model, x_BTI)
    assert torch.cuda.max_memory_allocated() - before < matrix_bytes / 4
