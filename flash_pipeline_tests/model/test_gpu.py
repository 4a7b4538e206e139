"""The kernels on a GPU, each held against exact attention at twice PyTorch's own error.

Needs torch, numpy, safetensors and pytest only, and shares nothing with the other tests, so that
it runs alone on a machine without the rest of the pipeline.

Shape letters: B batch rows, T bars, H heads, D head size, I inputs per bar, S symbols.
"""

import importlib.util
import math

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported
from flash_pipeline.model import ModelConfig, blocks
from flash_pipeline.model.analysis import full_attention, last_query_attention
from flash_pipeline.model.attention import attend
from flash_pipeline.model.heads import HEADS
from flash_pipeline.model.trader import FlashAttentionTrader

DEVICE = "cuda"
HAS_FLASH = importlib.util.find_spec("flash_attn") is not None
FLASH = pytest.param(
    "flash_attn", marks=pytest.mark.skipif(not HAS_FLASH, reason="flash_attn is not installed")
)
BACKENDS = [FLASH, "sdpa", "reference"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def left_padding(n_bars):
    """Return the mask of a full row, a padded one and an empty one."""
    starts_B1 = torch.tensor([[0], [n_bars // 3], [n_bars]], device=DEVICE)
    return torch.arange(n_bars, device=DEVICE) >= starts_B1


def plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, causal):
    """Compute attention by PyTorch's own operations, in the dtype of the inputs."""
    n_bars = q_BTHD.shape[1]
    seen_B1TT = torch.ones(1, 1, n_bars, n_bars, dtype=torch.bool, device=DEVICE)
    if causal:
        seen_B1TT = seen_B1TT.tril()
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


def hold_against_plain(backend, shape, dtype, mask_BT, causal):
    def plain(q_BTHD, k_BTHD, v_BTHD):
        return plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, causal)

    def ours(q_BTHD, k_BTHD, v_BTHD):
        return attend(q_BTHD, k_BTHD, v_BTHD, key_mask_BT=mask_BT, causal=causal, backend=backend)

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
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_size", [32, 64, 128])
@pytest.mark.parametrize("n_bars", [128, 500, 2048])
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_and_gradients_are_as_close_to_exact_as_plain_bfloat16(
    backend, n_bars, head_size, causal, masked
):
    mask_BT = left_padding(n_bars) if masked else None
    shape = (3 if masked else 2, n_bars, 4, head_size)
    hold_against_plain(backend, shape, torch.bfloat16, mask_BT, causal)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float16_is_as_close_to_exact_as_plain_float16(backend):
    hold_against_plain(backend, (3, 256, 4, 64), torch.float16, left_padding(256), causal=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mask_with_gaps_is_honoured(backend):
    mask_BT = torch.arange(256, device=DEVICE) % torch.tensor([[2], [3], [5]], device=DEVICE) != 0
    hold_against_plain(backend, (3, 256, 4, 64), torch.bfloat16, mask_BT, causal=False)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_rows_give_zeros_and_zero_gradients(backend, causal):
    mask_BT = torch.zeros(2, 128, dtype=torch.bool, device=DEVICE)
    results = output_and_gradients(
        lambda q, k, v: attend(q, k, v, key_mask_BT=mask_BT, causal=causal, backend=backend),
        draw((2, 128, 4, 64), torch.bfloat16, 4),
    )
    assert all(x.eq(0).all() for x in results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_drops_weights_and_keeps_the_mean(backend):
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
@pytest.mark.parametrize("backend", [FLASH, "sdpa"])
def test_the_whole_model_is_as_close_to_float32_as_with_reference_attention(
    backend, n_bars, masked
):
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
@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_training_steps_lower_the_loss(backend, head, n_bars):
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


def test_auto_takes_flash_attn_where_it_is_installed_and_says_why_it_does_not():
    model = make_model("auto")
    (x_BTI,) = draw((2, 128, 30), torch.float32, 1)
    with bfloat16():
        model(x_BTI)
        unmasked = model.attention_choice
        model(x_BTI[:, 1:])
        masked = model.attention_choice
    if HAS_FLASH:
        assert (unmasked.name, unmasked.kernel) == ("flash_attn", "flash_attn_func")
        assert (masked.name, masked.kernel) == ("flash_attn", "flash_attn_varlen_func")
    else:
        assert unmasked.name == masked.name == "sdpa"
        assert "the flash_attn package cannot be imported" in unmasked.reason


def test_auto_takes_sdpa_for_float32_and_says_why():
    model = make_model("auto")
    model(*draw((2, 128, 30), torch.float32, 1))
    assert model.attention_choice.name == "sdpa"
    assert "the dtype is torch.float32" in model.attention_choice.reason


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", [FLASH, "sdpa"])
def test_the_last_query_beside_the_fast_path_is_as_exact_as_the_full_matrix(backend, masked):
    (x_BTI,) = draw((3, 256, 30), torch.float32, 1)
    valid_BT = left_padding(256) if masked else None
    exact_LBHT = full_attention(make_model("reference"), x_BTI, valid_BT)[..., -1, :]
    with bfloat16():
        full_LBHT = full_attention(make_model("reference"), x_BTI, valid_BT)[..., -1, :]
        last_LBHT = last_query_attention(make_model(backend), x_BTI, valid_BT)
    assert rms(last_LBHT - exact_LBHT) <= 2 * rms(full_LBHT - exact_LBHT)


@pytest.mark.parametrize("backend", [FLASH, "sdpa"])
def test_the_last_query_forms_no_matrix(backend):
    n_bars = 8192
    model = make_model(backend, max_seq_len=n_bars)
    (x_BTI,) = draw((1, n_bars, 30), torch.float32, 1)
    matrix_bytes = model.config.n_heads * n_bars**2 * 2
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with bfloat16():
        last_query_attention(model, x_BTI)
    assert torch.cuda.max_memory_allocated() - before < matrix_bytes / 4
