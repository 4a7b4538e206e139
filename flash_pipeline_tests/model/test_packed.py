"""Attention over sequences of varying length, against each sequence by itself.

Shape letters: N queries and M keys of all sequences, H heads, D head size.
"""

import itertools
from types import SimpleNamespace

import pytest
import torch

from flash_pipeline.errors import AttentionUnsupported, InvalidInput
from flash_pipeline.model.attention import BackendChoice, attend, choose_backend
from flash_pipeline.model.kernels import packed as kernels
from flash_pipeline.model.kernels import reference_attention
from flash_pipeline.model.packed import Pack, Sequences, attend_packed, packed_call
from flash_pipeline.model.refusals import AttentionCall, refusal

CPU = torch.device("cpu")
BACKENDS = ["sdpa", "tiled", "reference"]
LENGTHS = [5, 0, 130, 5, 1, 64]
FEWER = [2, 0, 5, 0, 1, 64]


def draw(n_tokens, dtype=torch.float64, seed=3):
    generator = torch.Generator().manual_seed(seed)
    x_NHD = torch.randn(n_tokens, 2, 8, generator=generator, dtype=torch.float64)
    return x_NHD.to(dtype).requires_grad_()


def one_by_one(q_NHD, k_MHD, v_MHD, queries, keys, causal=False):
    """Compute plain attention within each sequence, in the dtype of the inputs."""
    outputs = []
    asked, seen = ([0, *itertools.accumulate(x)] for x in (queries, keys))
    for i in range(len(queries)):
        q, k, v = (
            q_NHD[asked[i] : asked[i + 1]],
            k_MHD[seen[i] : seen[i + 1]],
            v_MHD[seen[i] : seen[i + 1]],
        )
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        if causal:
            hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, -torch.inf)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(outputs)


def output_and_gradients(attention, queries, keys, dtype):
    tensors = draw(sum(queries), dtype), draw(sum(keys), dtype, 4), draw(sum(keys), dtype, 5)
    o_NHD = attention(*tensors)
    pull_NHD = torch.linspace(-1, 1, o_NHD.numel(), dtype=dtype).view_as(o_NHD)
    gradients = torch.autograd.grad(o_NHD, tensors, pull_NHD)
    return [x.detach().double() for x in (o_NHD, *gradients)]


CASES = {
    "self": (LENGTHS, LENGTHS, False),
    "causal": (LENGTHS, LENGTHS, True),
    "few queries": (FEWER, LENGTHS, False),
}


def packed(case, backend):
    queries, keys, causal = CASES[case]
    cuts = Sequences.of(queries, CPU), Sequences.of(keys, CPU)
    return lambda q, k, v: attend_packed(q, k, v, *cuts, causal=causal, backend=backend)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pack_is_each_of_its_sequences_by_itself(backend, case):
    queries, keys, causal = CASES[case]
    ours = output_and_gradients(packed(case, backend), queries, keys, torch.float64)
    exact = output_and_gradients(
        lambda q, k, v: one_by_one(q, k, v, queries, keys, causal), queries, keys, torch.float64
    )
    torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_errs_at_most_twice_as_much_as_plain_pytorch(backend, case):
    queries, keys, causal = CASES[case]

    def plain(q, k, v):
        return one_by_one(q, k, v, queries, keys, causal)

    exact_xs = output_and_gradients(plain, queries, keys, torch.float64)
    plain_xs = output_and_gradients(plain, queries, keys, torch.float32)
    our_xs = output_and_gradients(packed(case, backend), queries, keys, torch.float32)
    for exact_x, plain_x, our_x in zip(exact_xs, plain_xs, our_xs, strict=True):
        plain_error = (plain_x - exact_x).square().mean().sqrt()
        assert (our_x - exact_x).square().mean().sqrt() <= 2 * plain_error


def test_sequences_of_one_length_are_one_call(monkeypatch):
    calls = []

    def recorded(q, k, v, **options):
        calls.append(tuple(q.shape[:2]))
        return reference_attention(q, k, v, **options)[0]

    lengths = [4, 7, 4, 4, 0]
    x = draw(sum(lengths))
    groups = kernels.group_by_length(lengths, lengths, CPU)
    kernels.grouped(recorded, x, x, x, groups, causal=False, dropout_p=0.0)
    assert sorted(calls) == [(1, 7), (3, 4)]


@pytest.mark.parametrize("case", CASES)
def test_flash_attn_is_given_the_starts_and_the_longest(monkeypatch, case):
    queries, keys, causal = CASES[case]

    def pretended(q, k, v, query_starts, key_starts, longest_q, longest_k, dropout_p, **options):
        assert query_starts.dtype == key_starts.dtype == torch.int32
        assert (longest_q, longest_k, dropout_p) == (max(queries), max(keys), 0.0)
        lengths = [x.diff().tolist() for x in (query_starts, key_starts)]
        return one_by_one(q, k, v, *lengths, options["causal"])

    package = SimpleNamespace(flash_attn_varlen_func=pretended)
    monkeypatch.setattr(kernels, "flash_attn_package", lambda: package)
    cuts = Sequences.of(queries, CPU), Sequences.of(keys, CPU)
    tensors = draw(sum(queries)), draw(sum(keys), seed=4), draw(sum(keys), seed=5)
    o = kernels.flash_packed(
        *tensors,
        cuts[0].starts,
        cuts[1].starts,
        (max(queries), max(keys)),
        causal=causal,
        dropout_p=0.0,
    )
    torch.testing.assert_close(o, one_by_one(*tensors, queries, keys, causal))


def test_a_pack_without_a_query_gives_nothing():
    cut = Sequences.of([0, 0], CPU)
    empty = torch.zeros(0, 2, 8)
    assert attend_packed(empty, empty, empty, cut, backend="sdpa").shape == (0, 2, 8)


@pytest.mark.parametrize(
    ("queries", "keys", "options", "message"),
    [
        ([3], [4], {"causal": True}, "sequence 0 has 3 queries and 4 keys: expected as many"),
        ([1, 2], [3, 0], {}, "sequence 1 has 2 queries and 0 keys: expected a key"),
        ([3], [1, 2], {}, "queries have 1 sequences, keys 2"),
        ([4], [3], {}, r"q has the shape \(3, 2, 8\): expected \(4, 2, 8\)"),
        ([3], [3], {"dropout_p": 1.0}, r"dropout_p is 1\.0"),
    ],
)
def test_cuts_that_do_not_fit_are_refused(queries, keys, options, message):
    q, k = draw(3), draw(max(3, sum(keys)))
    cuts = Sequences.of(queries, CPU), Sequences.of(keys, CPU)
    with pytest.raises(InvalidInput, match=message):
        attend_packed(q, k, k, *cuts, backend="sdpa", **options)


class Counted(tuple):
    """Lengths that count how often someone goes through all of them."""

    passes = 0

    def __iter__(self):
        type(self).passes += 1
        return super().__iter__()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["sdpa", "flash_attn"])
def test_what_follows_from_the_cuts_is_found_out_once_for_all_layers(monkeypatch, backend, case):
    monkeypatch.setattr("flash_pipeline.model.packed.refusal", lambda _name, _call: None)
    monkeypatch.setattr("flash_pipeline.model.packed.flash_packed", lambda q, *_, **__: q)
    queries, keys, causal = CASES[case]
    cuts = [Sequences.of(lengths, CPU) for lengths in (queries, keys)]
    pack = Pack.of(*(Sequences(Counted(cut.lengths), cut.starts) for cut in cuts))
    q, k = draw(sum(queries)), draw(sum(keys), seed=4)
    choice = BackendChoice(backend, "", "")
    first = attend_packed(q, k, k, pack, causal=causal, backend=choice)
    Counted.passes = 0
    for _ in range(3):
        assert attend_packed(q, k, k, pack, causal=causal, backend=choice).equal(first)
    assert Counted.passes == 0


def test_a_pack_is_checked_where_it_is_made_and_each_call_against_it():
    cuts = [Sequences.of(lengths, CPU) for lengths in ([1, 2], [3, 1], [3, 0])]
    with pytest.raises(InvalidInput, match="sequence 1 has 2 queries and 0 keys"):
        Pack.of(cuts[0], cuts[2])
    pack, q, k = Pack.of(cuts[0], cuts[1]), draw(3), draw(4)
    for _ in range(2):  # what was found out once is refused each time
        with pytest.raises(InvalidInput, match="sequence 0 has 1 queries and 3 keys"):
            attend_packed(q, k, k, pack, causal=True, backend="sdpa")
        with pytest.raises(
            InvalidInput, match=r"k has the shape \(3, 2, 8\): expected \(4, 2, 8\)"
        ):
            attend_packed(q, q, q, pack, backend="sdpa")
    with pytest.raises(InvalidInput, match="expected keys=None beside it"):
        attend_packed(q, k, k, pack, cuts[1], backend="sdpa")


def test_no_sequence_and_negative_lengths_are_refused():
    for lengths in ([], [2, -1]):
        with pytest.raises(InvalidInput, match="expected one or more"):
            Sequences.of(lengths, CPU)


def test_what_a_backend_cannot_do_over_a_pack_is_refused():
    x, cut = draw(3, torch.float32), Sequences.of([3], CPU)
    with pytest.raises(AttentionUnsupported, match="tiled was asked for, but it has no dropout"):
        attend_packed(x, x, x, cut, dropout_p=0.1, backend="tiled")
    dense = choose_backend(AttentionCall(CPU, torch.float32, 8, 3), "tiled")
    with pytest.raises(AttentionUnsupported, match="tiled was chosen before, but it has no drop"):
        attend_packed(x, x, x, cut, dropout_p=0.1, backend=dense)
    with pytest.raises(AttentionUnsupported, match="flash_attn was asked for"):
        attend_packed(x, x, x, cut, backend="flash_attn")


def test_flex_takes_no_pack():
    call = packed_call(draw(3), Sequences.of([3], CPU), causal=False, dropout=False)
    assert call.packed
    on_gpu = AttentionCall(torch.device("cuda"), torch.bfloat16, 64, 100, packed=True)
    assert "packed sequences have many" in (refusal("flex", on_gpu) or "")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_queries", [1, 7, 200])
def test_fewer_or_more_queries_than_keys_attend_alike(backend, n_queries):
    q, k, v = (draw(n * 2, seed=i).view(2, n, 2, 8) for i, n in enumerate((n_queries, 150, 150)))
    exact = torch.einsum(
        "bhqk,bkhd->bqhd", (torch.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5).softmax(-1), v
    )
    o = attend(q, k, v, backend=backend)
    torch.testing.assert_close(o, exact)
    pull = torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o)
    torch.testing.assert_close(
        torch.autograd.grad(o, (q, k, v), pull), torch.autograd.grad(exact, (q, k, v), pull)
    )


def test_a_causal_or_masked_call_takes_as_many_queries_as_keys():
    q, k = torch.zeros(1, 2, 1, 8), torch.zeros(1, 3, 1, 8)
    for options in ({"causal": True}, {"key_mask_BT": torch.ones(1, 3, dtype=torch.bool)}):
        with pytest.raises(InvalidInput, match="k has the shape"):
            attend(q, k, k, backend="sdpa", **options)
