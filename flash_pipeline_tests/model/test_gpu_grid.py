"""Packed sequences, few queries and the models built on them, on a GPU.

Needs torch, numpy, safetensors and pytest only, and shares nothing with the other tests, so that
it runs alone on a machine without the rest of the pipeline.

Shape letters: N queries and M keys of all sequences, H heads, D head size.
"""

import itertools
import warnings

import pytest
import torch

from flash_pipeline.model.attention import attend
from flash_pipeline.model.grid_analysis import last_moment_attention
from flash_pipeline.model.order_book import OrderBookModel
from flash_pipeline.model.packed import Sequences, attend_packed, packed_call
from flash_pipeline.model.portfolio import PortfolioModel
from flash_pipeline.model.refusals import BACKENDS, AttentionCall, refusal
from flash_pipeline.training.ema import WeightAverage
from flash_pipeline.training.optimizer import make_optimizer
from flash_pipeline.training.recipes import TrainConfig
from flash_pipeline.training.source import GridBatches
from flash_pipeline.training.step import make_step

DEVICE = torch.device("cuda")
CASES = {
    "self": ([200, 0, 130, 200, 1], [200, 0, 130, 200, 1], False),
    "causal": ([200, 0, 130, 200, 1], [200, 0, 130, 200, 1], True),
    "few queries": ([3, 0, 1, 0, 1], [200, 5, 130, 200, 1], False),
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


def draw(*shape, seed=3, dtype=torch.bfloat16):
    generator = torch.Generator(DEVICE).manual_seed(seed)
    x = torch.randn(shape, generator=generator, device=DEVICE).to(dtype)
    return x.requires_grad_()


def one_by_one(q_NHD, k_MHD, v_MHD, queries, keys, causal):
    """Compute plain attention within each sequence, in the dtype of the inputs."""
    outputs = []
    asked, seen = ([0, *itertools.accumulate(x)] for x in (queries, keys))
    for i in range(len(queries)):
        q = q_NHD[asked[i] : asked[i + 1]] / q_NHD.shape[-1] ** 0.5
        k, v = (x[seen[i] : seen[i + 1]] for x in (k_MHD, v_MHD))
        scores = torch.einsum("qhd,khd->hqk", q, k)
        if causal:
            hidden = torch.ones(scores.shape[1:], dtype=torch.bool, device=DEVICE).triu(1)
            scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(outputs)


def results(attention, tensors):
    o = attention(*tensors)
    pull = torch.linspace(-1, 1, o.numel(), device=DEVICE).view_as(o).to(o.dtype)
    return [x.detach().float() for x in (o, *torch.autograd.grad(o, tensors, pull))]


def hold_against_plain(plain, ours, narrow):
    wide = [x.detach().float().requires_grad_() for x in narrow]
    for name, exact, rough, found in zip(
        "oqkv", results(plain, wide), results(plain, narrow), results(ours, narrow), strict=True
    ):
        # The exact result rounded once must pass too: the plain error may be small by luck.
        rounding = (exact.bfloat16().float() - exact).abs().max()
        allowed = 2 * max((rough - exact).abs().max(), rounding)
        assert (found - exact).abs().max() <= allowed, name


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("head_size", [16, 64, 128])
@pytest.mark.parametrize("backend", BACKENDS)
def test_packs_err_at_most_twice_as_much_as_plain_pytorch(backend, head_size, case):
    queries, keys, causal = CASES[case]
    cuts = Sequences.of(queries, DEVICE), Sequences.of(keys, DEVICE)
    q = draw(sum(queries), 2, head_size)
    reason = refusal(backend, packed_call(q, cuts[1], causal=causal, dropout=False))
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")
    hold_against_plain(
        lambda *qkv: one_by_one(*qkv, queries, keys, causal),
        lambda *qkv: attend_packed(*qkv, *cuts, causal=causal, backend=backend),
        [q, *(draw(sum(keys), 2, head_size, seed=seed) for seed in (4, 5))],
    )


@pytest.mark.parametrize("n_queries", [1, 100])
@pytest.mark.parametrize("head_size", [16, 64, 128])
@pytest.mark.parametrize("backend", BACKENDS)
def test_few_queries_err_at_most_twice_as_much_as_plain_pytorch(backend, head_size, n_queries):
    n_keys = 1500
    reason = refusal(backend, AttentionCall(DEVICE, torch.bfloat16, head_size, n_keys))
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")

    def plain(q, k, v):
        scores = torch.einsum("bqhd,bkhd->bhqk", q / head_size**0.5, k)
        return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)

    hold_against_plain(
        plain,
        lambda *qkv: attend(*qkv, backend=backend),
        [
            draw(2, n_queries, 2, head_size),
            *(draw(2, n_keys, 2, head_size, seed=seed) for seed in (4, 5)),
        ],
    )


def make(attention="auto", **options):
    torch.manual_seed(0)
    shape = {"d_model": 64, "n_heads": 1, "n_layers": 3, "d_ff": 128, "asset_cap": 1.0} | options
    model = PortfolioModel(7, 90, attention=attention, **shape).to(DEVICE)
    torch.nn.init.normal_(model.head.weight)
    return model


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("span", ["full", "causal"])
@pytest.mark.parametrize("masked", [False, True])
def test_in_half_precision_the_model_gives_what_it_gives_in_float32(layout, span, masked):
    model = make(layout=layout, span=span).eval()
    x = draw(3, 90, 7, 3, dtype=torch.float32).detach()
    present = torch.rand(3, 90, 7, device=DEVICE) > 0.2 if masked else None
    exact = make("reference", layout=layout, span=span).eval()(x, present)
    with torch.autocast("cuda", torch.bfloat16):
        found = model(x, present)
        every = model.run(x, present, model.attention_choice, every_bar=True)[:, -1]
    assert (found - exact).abs().max() < 0.05
    assert (found - every).abs().max() < 0.05
    assert exact.abs().max() > 0.1


@pytest.mark.parametrize("layout", ["joint", "axial"])
@pytest.mark.parametrize("form", [{}, {"span": "causal", "supervision": "dense"}])
def test_captured_steps_are_the_eager_ones(layout, form):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 7, 3, generator=generator)
    returns = 0.01 * torch.randn(200, 7, generator=generator)
    batches = GridBatches(x, None, returns, torch.arange(89, 200), 90, DEVICE)
    losses = []
    for compiled in (True, False):
        config = TrainConfig(epochs=1, warm_epochs=1, batch_size=8, compile=compiled)
        model = make(layout=layout, **form).train()
        average = WeightAverage(model, 0.9)
        step = make_step(model, batches, make_optimizer(model, config), config, average)
        index = torch.arange(40, device=DEVICE).view(5, 8)
        losses.append(torch.stack([step(part)[0] for part in index]))
        assert step.form == ("captured" if compiled else "eager: compile is False")
    torch.testing.assert_close(losses[0], losses[1], rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("model", "shape", "most_gib"),
    [
        (lambda: OrderBookModel(n_heads=2), (1, 1000, 50, 2, 3), 0.5),
        (lambda: PortfolioModel(n_heads=2), (1, 2048, 100, 3), 1.0),
    ],
    ids=["order book", "portfolio"],
)
def test_one_prediction_of_the_whole_size_takes_little_memory(model, shape, most_gib):
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = model().to(DEVICE)
    x = torch.randn(shape, device=DEVICE)
    with torch.autocast("cuda", torch.bfloat16):
        outputs = model.predict(x)
    assert outputs.isfinite().all()
    assert (torch.cuda.max_memory_allocated() - before) / 2**30 <= most_gib


def test_what_it_looks_at_takes_memory_in_proportion_to_the_tokens():
    peaks = []
    for snapshots in (250, 500):
        model = OrderBookModel(50, snapshots, n_heads=2, n_layers=2).to(DEVICE)
        x = torch.randn(1, snapshots, 50, 2, 3, device=DEVICE)
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            found = last_moment_attention(model, x)
        peaks.append(torch.cuda.max_memory_allocated())
        torch.testing.assert_close(
            found.by_cell_LBHGK.sum(-1), torch.ones(2, 1, 2, 100, device=DEVICE)
        )
    assert peaks[1] < 2.2 * peaks[0]
