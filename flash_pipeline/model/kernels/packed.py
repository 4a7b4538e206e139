"""Sequences of varying length that lie end to end, without padding.

Two ways: a kernel that takes the pack as it is (flash-attn 2 and PyTorch's copy of it), or the
sequences of one length together as rows of a dense kernel, which is just as exact. The second pays
where sequences are long, or of few lengths.

Shape letters: N queries and M keys of all sequences, S sequences of one length, Q queries and K
keys of one of them, H heads, D head size.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flash_pipeline.model.kernels.flash import flash_attn_package
from flash_pipeline.model.kernels.protocol import Kernel

Lengths = Sequence[int]
"""Tokens of each sequence."""


def flash_packed(
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest: tuple[int, int],
    *,
    causal: bool,
    dropout_p: float,
) -> Tensor:
    """Run flash-attn 2's `flash_attn_varlen_func` on int32 starts [sequences + 1]."""
    o_NHD: Tensor = flash_attn_package().flash_attn_varlen_func(
        q_NHD,
        k_MHD,
        v_MHD,
        query_starts,
        key_starts,
        *longest,
        dropout_p,
        causal=causal,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return o_NHD


def torch_packed(
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest: tuple[int, int],
    *,
    causal: bool,
    dropout_p: float,
) -> Tensor:
    """Run PyTorch's `varlen_attn`; dropout is refused before."""
    assert dropout_p == 0
    function = varlen_attention()
    options: dict[str, object] = {}
    if causal:
        options = {"window_size": (-1, 0)} if _by_window(function) else {"is_causal": True}
    return function(q_NHD, k_MHD, v_MHD, query_starts, key_starts, *longest, **options)


@functools.cache
def _by_window(function: Callable[..., Tensor]) -> bool:
    """Say what the argument is called that hides later keys: it has changed between versions."""
    return "window_size" in inspect.signature(function).parameters


@dataclass(frozen=True, eq=False)
class Group:
    """Sequences that have equally many queries, and equally many keys."""

    query_SQ: Tensor
    """Places of their queries in the pack."""
    key_SK: Tensor
    """Places of their keys; the same tensor where they are those of the queries."""


def group_by_length(
    query_lengths: Lengths, key_lengths: Lengths, device: torch.device
) -> tuple[Group, ...]:
    """Return the groups of a pack, one for every pair of lengths that occurs.

    A sequence without queries is in none.
    """
    firsts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    first_query = first_key = 0
    for queries, keys in zip(query_lengths, key_lengths, strict=True):
        if queries:
            firsts.setdefault((queries, keys), []).append((first_query, first_key))
        first_query, first_key = first_query + queries, first_key + keys
    groups = []
    for (queries, keys), places in firsts.items():
        query_S, key_S = ([place[i] for place in places] for i in (0, 1))
        query_SQ = _places(query_S, queries, device)
        alike = queries == keys and query_S == key_S
        groups.append(Group(query_SQ, query_SQ if alike else _places(key_S, keys, device)))
    return tuple(groups)


def grouped(
    kernel: Kernel,
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    groups: Sequence[Group],
    *,
    causal: bool,
    dropout_p: float,
) -> Tensor:
    """Run a dense kernel once for each group, its sequences as the rows."""
    outputs, places = [], []
    for group in groups:
        o_SQHD = kernel(
            q_NHD[group.query_SQ],
            k_MHD[group.key_SK],
            v_MHD[group.key_SK],
            key_mask_BT=None,
            causal=causal,
            window=None,
            dropout_p=dropout_p,
        )
        outputs.append(o_SQHD.flatten(0, 1))
        places.append(group.query_SQ.flatten())
    if not outputs:
        return q_NHD * 0
    o_NHD, place_N = torch.cat(outputs), torch.cat(places)
    return torch.empty_like(o_NHD).index_copy(0, place_N, o_NHD)


def varlen_attention() -> Callable[..., Tensor]:
    """Import PyTorch's attention over packed sequences, on first use only.

    Raises
    ------
    ImportError
        If this PyTorch has none.
    """
    function: Callable[..., Tensor] = importlib.import_module(
        "torch.nn.attention.varlen"
    ).varlen_attn
    return function


def _places(firsts: list[int], length: int, device: torch.device) -> Tensor:
    first_S = torch.tensor(firsts).to(device, non_blocking=True)  # waits for no layer before
    return first_S[:, None] + torch.arange(length, device=device)
