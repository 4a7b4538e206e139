"""Shape letters: B batch rows, T bars, H heads, D head size."""

import math

import pytest
import torch

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.kernels import reference_attention
from flash_pipeline.model.tiled import tiled_attention

N_BARS = 37  # a multiple of no tile below

SPANS = {
    "full": {},
    "causal": {"causal": True},
    "window of itself": {"causal": True, "window": 1},
    "window within a tile": {"causal": True, "window": 3},
    "window over tiles": {"causal": True, "window": 13},
    "window of everything": {"causal": True, "window": 100},
}

MASKS = {
    "none": None,
    "left padding": torch.arange(N_BARS) >= torch.tensor([[0], [5], [30]]),
    "gaps": torch.arange(N_BARS) % torch.tensor([[2], [3], [4]]) != 0,
    "a gap of tiles": (torch.arange(N_BARS) < 6) | (torch.arange(N_BARS) > 25).repeat(3, 1),
    "an empty row": torch.arange(N_BARS) >= torch.tensor([[0], [N_BARS], [3]]),
}


def draw_qkv(dtype=torch.float64, shape=(3, N_BARS, 2, 8)):
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for _ in range(3)
    ]


def softmax_attention(q_BTHD, k_BTHD, v_BTHD, **options):
    return reference_attention(q_BTHD, k_BTHD, v_BTHD, **options)[0]


def output_and_gradients(attention, qkv, **options):
    o_BTHD = attention(*qkv, **options)
    pull_BTHD = torch.linspace(-1, 1, o_BTHD.numel(), dtype=o_BTHD.dtype).view_as(o_BTHD)
    return [o_BTHD.detach(), *torch.autograd.grad(o_BTHD, qkv, pull_BTHD)]


@pytest.mark.parametrize("tile", [1, 4, 16, 128])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("span", SPANS)
def test_the_tiles_add_up_to_softmax_attention_and_its_gradients(span, mask, tile):
    options = {"key_mask_BT": MASKS[mask], **SPANS[span]}
    tiled = output_and_gradients(tiled_attention, draw_qkv(), **options, tile=tile)
    exact = output_and_gradients(softmax_attention, draw_qkv(), **options)
    torch.testing.assert_close(tiled, exact)


@pytest.mark.parametrize("n_bars", [1, 3, 4, 5, 8])
def test_any_length_will_do(n_bars):
    qkv = draw_qkv(shape=(2, n_bars, 1, 4))
    torch.testing.assert_close(
        output_and_gradients(tiled_attention, qkv, causal=True, tile=4),
        output_and_gradients(softmax_attention, qkv, causal=True),
    )


@pytest.mark.parametrize("mask", ["none", "gaps", "an empty row"])
@pytest.mark.parametrize("span", ["full", "causal", "window within a tile"])
def test_gradients_are_those_of_finite_differences(span, mask):
    mask_BT = None if MASKS[mask] is None else MASKS[mask][:2, :5]
    qkv = draw_qkv(shape=(2, 5, 1, 3))
    assert torch.autograd.gradcheck(
        lambda *qkv: tiled_attention(*qkv, key_mask_BT=mask_BT, **SPANS[span], tile=2), qkv
    )


@pytest.mark.parametrize("mask", ["none", "left padding"])
@pytest.mark.parametrize("span", ["full", "causal", "window within a tile", "window over tiles"])
def test_float32_errs_at_most_twice_as_much_as_softmax_attention(span, mask):
    options = {"key_mask_BT": MASKS[mask], **SPANS[span]}
    exact_xs = output_and_gradients(softmax_attention, draw_qkv(), **options)
    plain_xs, tiled_xs = (
        output_and_gradients(attention, draw_qkv(torch.float32), **options)
        for attention in (softmax_attention, tiled_attention)
    )
    for exact, plain, tiled in zip(exact_xs, plain_xs, tiled_xs, strict=True):
        plain_error = (plain - exact).square().mean().sqrt()
        assert (tiled - exact).square().mean().sqrt() <= 2 * plain_error


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_computed_in_float32(dtype):
    narrow = draw_qkv(dtype)
    wide = [x.detach().float().requires_grad_() for x in narrow]
    tiled = output_and_gradients(tiled_attention, narrow, causal=True, tile=8)
    exact = output_and_gradients(tiled_attention, wide, causal=True, tile=8)
    assert {x.dtype for x in tiled} == {dtype}
    assert tiled[0].equal(exact[0].to(dtype))


@pytest.mark.parametrize("span", SPANS)
def test_a_query_that_sees_nothing_gives_zeros_and_zero_gradients(span):
    mask_BT = MASKS["an empty row"]
    xs = output_and_gradients(
        tiled_attention, draw_qkv(torch.float32), key_mask_BT=mask_BT, **SPANS[span], tile=8
    )
    for x_BTHD in xs:
        assert x_BTHD.isfinite().all()
        assert x_BTHD[~mask_BT].eq(0).all()


def test_scores_beyond_the_range_of_exp_are_no_trouble():
    q_BTHD, k_BTHD, v_BTHD = draw_qkv(torch.float32)
    qkv = [x.detach().requires_grad_() for x in (100 * q_BTHD, 100 * k_BTHD, v_BTHD)]
    tiled = output_and_gradients(tiled_attention, qkv, tile=4)
    assert all(x.isfinite().all() for x in tiled)
    torch.testing.assert_close(tiled[0], softmax_attention(*qkv).detach(), rtol=1e-3, atol=1e-3)


def test_under_autocast_nothing_is_rounded():
    outside = output_and_gradients(tiled_attention, draw_qkv(torch.float32), causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = output_and_gradients(tiled_attention, draw_qkv(torch.float32), causal=True)
    assert all(one.equal(other) for one, other in zip(outside, inside, strict=True))


def test_tiles_that_the_span_excludes_are_not_computed(monkeypatch):
    products = []
    original = torch.Tensor.amax
    monkeypatch.setattr(
        torch.Tensor, "amax", lambda *a, **k: products.append(1) or original(*a, **k)
    )
    counts = {}
    for name in ("full", "causal", "window within a tile"):
        products.clear()
        tiled_attention(*draw_qkv(shape=(1, 32, 1, 4)), **SPANS[name], tile=4)
        counts[name] = len(products)
    # 8 x 8 tiles, the diagonal and what is below it, the diagonal and its neighbour.
    assert counts == {"full": 64, "causal": 36, "window within a tile": 15}


def saved_bytes(attention, n_bars):
    """Return the bytes that a forward pass keeps for the backward one."""
    storages = {}

    def keep(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    qkv = draw_qkv(torch.float32, (1, n_bars, 2, 8))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        o_BTHD = attention(*qkv, causal=True)
    assert o_BTHD.requires_grad
    return sum(storages.values())


def test_what_is_kept_for_the_backward_pass_grows_with_the_length_and_not_with_its_square():
    tiled = [saved_bytes(tiled_attention, n_bars) for n_bars in (512, 1024, 2048)]
    assert tiled[1] == 2 * tiled[0]
    assert tiled[2] == 4 * tiled[0]
    # Queries, keys, values and output, and one number per query and head.
    assert tiled[0] == 512 * 2 * 4 * (4 * 8 + 1)
    softmax = [saved_bytes(softmax_attention, n_bars) for n_bars in (512, 1024)]
    assert softmax[1] > 3.5 * softmax[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 4}, "window is 4 with causal=False"),
        ({"window": 0, "causal": True}, "window is 0 with causal=True"),
        ({"tile": 0}, "tile is 0"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        tiled_attention(*draw_qkv(), **options)


def test_the_scale_is_one_over_the_root_of_the_head_size():
    q_BTHD = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]], [[0.0] * 4]]])
    k_BTHD = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]], [[0.0] * 4]]])
    v_BTHD = torch.tensor([[[[1.0] * 4], [[0.0] * 4]]])
    weight = math.exp(2 / 2) / (math.exp(2 / 2) + 1)
    assert tiled_attention(q_BTHD, k_BTHD, v_BTHD)[0, 0, 0, 0].item() == pytest.approx(weight)
