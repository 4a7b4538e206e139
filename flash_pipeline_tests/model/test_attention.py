"""Shape letters: B batch rows, T bars, H heads, D head size, N packed tokens."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported, InvalidInput
from flash_pipeline.model import attention
from flash_pipeline.model.attention import attend, choose_backend
from flash_pipeline.model.kernels import flash, reference_attention
from flash_pipeline.model.refusals import AttentionCall

BACKENDS = ["sdpa", "tiled", "reference"]

SPANS = {
    "full": {},
    "causal": {"causal": True},
    "sliding": {"causal": True, "window": 5},
    "one bar": {"causal": True, "window": 1},
}

MASKS = {
    "none": None,
    "left padding": torch.arange(12) >= torch.tensor([[0], [5], [11]]),
    "gaps": torch.arange(12) % torch.tensor([[2], [3], [4]]) != 0,
    "an empty row": torch.arange(12) >= torch.tensor([[0], [12], [3]]),
}


def draw_qkv(dtype=torch.float32, shape=(3, 12, 2, 8)):
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(3)
    ]


def token_by_token(q_BTHD, k_BTHD, v_BTHD, mask_BT, causal=False, window=None):
    """Compute attention one query at a time, over the keys that it may see."""
    o_BTHD = torch.zeros_like(q_BTHD)
    n_rows, n_bars = q_BTHD.shape[:2]
    for b in range(n_rows):
        for t in range(n_bars):
            keys = [
                s
                for s in range(max(0, t + 1 - window) if window else 0, t + 1 if causal else n_bars)
                if mask_BT is None or (mask_BT[b, s] and mask_BT[b, t])
            ]
            if keys:
                scores_SH = (k_BTHD[b, keys] * q_BTHD[b, t]).sum(-1) / math.sqrt(q_BTHD.shape[-1])
                weights_SH1 = scores_SH.exp().div(scores_SH.exp().sum(0))[:, :, None]
                o_BTHD[b, t] = (weights_SH1 * v_BTHD[b, keys]).sum(0)
    return o_BTHD


def plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, causal=False, window=None):
    """Compute attention by PyTorch's own operations, in the dtype of the inputs."""
    n_bars = q_BTHD.shape[1]
    seen_B1TT = torch.ones(1, 1, n_bars, n_bars, dtype=torch.bool)
    if causal:
        seen_B1TT = seen_B1TT.tril().triu(1 - (window or n_bars))
    if mask_BT is not None:
        seen_B1TT = seen_B1TT & mask_BT[:, None, :, None] & mask_BT[:, None, None, :]
    scores_BHTT = torch.einsum("bthd,bshd->bhts", q_BTHD / math.sqrt(q_BTHD.shape[-1]), k_BTHD)
    scores_BHTT = scores_BHTT.masked_fill(~seen_B1TT, torch.finfo(scores_BHTT.dtype).min)
    weights_BHTT = scores_BHTT.softmax(-1).masked_fill(~seen_B1TT, 0.0)
    return torch.einsum("bhts,bshd->bthd", weights_BHTT, v_BTHD)


def output_and_gradients(attention, dtype, n_bars=12):
    q_BTHD, k_BTHD, v_BTHD = draw_qkv(dtype, (3, n_bars, 2, 8))
    o_BTHD = attention(q_BTHD, k_BTHD, v_BTHD)
    pull_BTHD = torch.linspace(-1, 1, o_BTHD.numel(), dtype=dtype).view_as(o_BTHD)
    gradients = torch.autograd.grad(o_BTHD, (q_BTHD, k_BTHD, v_BTHD), pull_BTHD)
    return [x.detach().double() for x in (o_BTHD, *gradients)]


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_is_what_a_loop_over_the_tokens_computes(backend, mask, span):
    mask_BT = MASKS[mask]
    ours = output_and_gradients(
        lambda q, k, v: attend(q, k, v, key_mask_BT=mask_BT, **SPANS[span], backend=backend),
        torch.float64,
    )
    exact = output_and_gradients(
        lambda q, k, v: token_by_token(q, k, v, mask_BT, **SPANS[span]), torch.float64
    )
    torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize("span", ["full", "causal", "sliding"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_errs_at_most_twice_as_much_as_plain_pytorch(backend, masked, span):
    # Enough bars for a steady root mean square: fused kernels round the gradients of queries
    # that see a key or two, which plain PyTorch gets right by luck.
    n_bars = 200
    mask_BT = torch.arange(n_bars) >= torch.tensor([[0], [70], [200]]) if masked else None

    def plain(q_BTHD, k_BTHD, v_BTHD):
        return plain_attention(q_BTHD, k_BTHD, v_BTHD, mask_BT, **SPANS[span])

    def ours(q_BTHD, k_BTHD, v_BTHD):
        return attend(q_BTHD, k_BTHD, v_BTHD, key_mask_BT=mask_BT, **SPANS[span], backend=backend)

    exact_xs = output_and_gradients(plain, torch.float64, n_bars)
    plain_xs = output_and_gradients(plain, torch.float32, n_bars)
    our_xs = output_and_gradients(ours, torch.float32, n_bars)
    for exact_x, plain_x, our_x in zip(exact_xs, plain_xs, our_xs, strict=True):
        plain_error = (plain_x - exact_x).square().mean().sqrt()
        assert (our_x - exact_x).square().mean().sqrt() <= 2 * plain_error


@pytest.mark.parametrize("span", SPANS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_without_any_token_gives_zeros_and_zero_gradients(backend, span):
    mask_BT = MASKS["an empty row"]
    o_BTHD, *gradients = output_and_gradients(
        lambda q, k, v: attend(q, k, v, key_mask_BT=mask_BT, **SPANS[span], backend=backend),
        torch.float32,
    )
    for x_BTHD in (o_BTHD, *gradients):
        assert x_BTHD[1].eq(0).all()
        assert x_BTHD.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_an_absent_token_holds_changes_nothing(backend):
    mask_BT = MASKS["left padding"]
    q_BTHD, k_BTHD, v_BTHD = (x.detach() for x in draw_qkv())
    before_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, key_mask_BT=mask_BT, backend=backend)
    for x_BTHD in (q_BTHD, k_BTHD, v_BTHD):
        x_BTHD[~mask_BT] = 100.0
    after_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, key_mask_BT=mask_BT, backend=backend)
    assert after_BTHD.equal(before_BTHD)
    assert after_BTHD[~mask_BT].eq(0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_causal_query_does_not_see_later_keys(backend):
    q_BTHD, k_BTHD, v_BTHD = (x.detach() for x in draw_qkv())
    before_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, causal=True, backend=backend)
    k_BTHD[:, 6:], v_BTHD[:, 6:] = 9.0, 9.0
    after_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, causal=True, backend=backend)
    assert after_BTHD[:, :6].equal(before_BTHD[:, :6])
    assert not after_BTHD[:, 6:].isclose(before_BTHD[:, 6:]).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_output_has_the_dtype_of_the_queries_under_autocast_too(backend, dtype):
    q_BTHD, k_BTHD, v_BTHD = draw_qkv(dtype)
    outside_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        inside_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, backend=backend)
    assert inside_BTHD.dtype == dtype
    assert inside_BTHD.equal(outside_BTHD)


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
def test_dropout_drops_weights_and_keeps_the_mean(backend):
    torch.manual_seed(0)
    q_BTHD = torch.zeros(1, 64, 2, 8)
    v_BTHD = torch.ones(1, 64, 2, 8)
    o_BTHD = attend(q_BTHD, q_BTHD, v_BTHD, dropout_p=0.5, backend=backend)
    assert o_BTHD.std() > 0
    assert o_BTHD.mean() == pytest.approx(1.0, abs=0.05)


def test_reference_weights_are_those_before_dropout():
    torch.manual_seed(0)
    q_BTHD, k_BTHD, v_BTHD = draw_qkv()
    _, dropped_BHTT = reference_attention(q_BTHD, k_BTHD, v_BTHD, dropout_p=0.5)
    _, weights_BHTT = reference_attention(q_BTHD, k_BTHD, v_BTHD)
    assert dropped_BHTT.equal(weights_BHTT)
    torch.testing.assert_close(dropped_BHTT.sum(-1), torch.ones(3, 2, 12))


def test_reference_weights_of_absent_tokens_are_zeros():
    mask_BT = MASKS["an empty row"]
    _, weights_BHTT = reference_attention(*draw_qkv(), key_mask_BT=mask_BT)
    sums_BHT = mask_BT[:, None].expand(3, 2, 12).float()
    torch.testing.assert_close(weights_BHTT.sum(-1), sums_BHT)
    assert weights_BHTT[:, 0][~(mask_BT[:, :, None] & mask_BT[:, None, :])].eq(0).all()


def packed_attention(q_NHD, k_NHD, v_NHD, starts, _, longest, __, dropout_p, *, causal, **_more):
    """Stand in for flash_attn_varlen_func on a CPU: each sequence by itself."""
    assert dropout_p == 0.0
    assert starts.dtype == torch.int32
    ends = starts.tolist()
    assert ends[-1] == len(q_NHD)
    outputs = []
    for start, end in itertools.pairwise(ends):
        assert 0 <= end - start <= longest
        row = [x[None, start:end] for x in (q_NHD, k_NHD, v_NHD)]
        outputs.append(token_by_token(*row, None, causal)[0])
    return torch.cat(outputs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", ["left padding", "gaps", "an empty row"])
def test_masked_rows_are_packed_for_flash_attn_and_put_back(monkeypatch, mask, causal):
    package = SimpleNamespace(flash_attn_varlen_func=packed_attention)
    monkeypatch.setattr(flash, "flash_attn_package", lambda: package)
    mask_BT = MASKS[mask]
    exact = output_and_gradients(
        lambda q, k, v: token_by_token(q, k, v, mask_BT, causal), torch.float64
    )
    packed = output_and_gradients(
        lambda q, k, v: flash.flash_kernel(
            q, k, v, key_mask_BT=mask_BT, causal=causal, window=None, dropout_p=0.0
        ),
        torch.float64,
    )
    for packed_x, exact_x in zip(packed, exact, strict=True):
        torch.testing.assert_close(packed_x, exact_x)


def test_a_batch_of_empty_rows_never_reaches_flash_attn(monkeypatch):
    monkeypatch.setattr(flash, "flash_attn_package", SimpleNamespace)
    mask_BT = torch.zeros(3, 12, dtype=torch.bool)
    results = output_and_gradients(
        lambda q, k, v: flash.flash_kernel(
            q, k, v, key_mask_BT=mask_BT, causal=False, window=None, dropout_p=0.0
        ),
        torch.float32,
    )
    assert all(x.eq(0).all() for x in results)


def test_flash_attn_refuses_float32_and_says_what_it_takes():
    with pytest.raises(AttentionUnsupported, match=r"torch\.float32: expected torch\.float16 or"):
        attend(*draw_qkv(), backend="flash_attn")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key_mask_BT": torch.ones(3, 11, dtype=torch.bool)}, r"key_mask has the shape \(3, 11\)"),
        ({"key_mask_BT": torch.ones(3, 12)}, r"key_mask is torch\.float32: expected torch\.bool"),
        ({"dropout_p": 1.0}, r"dropout_p is 1\.0"),
        ({"window": 3}, r"window is 3 with causal=False: expected at least 1, with causal=True"),
        ({"window": 0, "causal": True}, "window is 0 with causal=True"),
        ({"q_BTHD": torch.zeros(3, 12, 8)}, r"q has the shape \(3, 12, 8\)"),
        ({"k_BTHD": torch.zeros(3, 13, 2, 8)}, r"k has the shape \(3, 13, 2, 8\): expected q's"),
        ({"v_BTHD": torch.zeros(3, 12, 2, 8).half()}, r"v is torch\.float16: expected q's"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes, message):
    names = ("q_BTHD", "k_BTHD", "v_BTHD")
    arguments = {**dict(zip(names, draw_qkv(), strict=True)), **changes}
    operands = [arguments.pop(name) for name in names]
    with pytest.raises(InvalidInput, match=message):
        attend(*operands, **arguments, backend="sdpa")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_of_a_sliding_window_sees_so_many_bars_and_its_own(backend):
    q_BTHD, k_BTHD, v_BTHD = (x.detach() for x in draw_qkv())
    before_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, causal=True, window=3, backend=backend)
    k_BTHD[:, 4], v_BTHD[:, 4] = 9.0, 9.0
    after_BTHD = attend(q_BTHD, k_BTHD, v_BTHD, causal=True, window=3, backend=backend)
    changed = ~after_BTHD.isclose(before_BTHD, rtol=0, atol=1e-6).all(-1).all(-1).all(0)
    assert changed.nonzero().flatten().tolist() == [4, 5, 6]


def test_a_window_as_long_as_the_series_is_the_causal_span():
    qkv = draw_qkv()
    wide_BTHD = attend(*qkv, causal=True, window=12, backend="reference")
    assert wide_BTHD.equal(attend(*qkv, causal=True, backend="reference"))


def test_a_choice_made_before_is_not_made_again(monkeypatch):
    qkv = draw_qkv()
    choice = choose_backend(AttentionCall(qkv[0].device, torch.float32, 8, 12), "reference")
    monkeypatch.setattr(attention, "choose_backend", None)
    assert attend(*qkv, backend=choice).isfinite().all()
