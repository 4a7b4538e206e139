"""The seam for sequences of varying length: `attend` over a pack instead of rows of one length.

Shape letters: N queries and M keys of all sequences end to end, S sequences, H heads, D head size.

What is absent is not in the pack at all, so nothing is filled and no work is spent on it. As for
`attend`, a backend that cannot honour a call says so: no argument is ever dropped.

All layers of a pass share their cuts, of which there may be thousands of sequences. What follows
from the cuts alone is therefore found out, and refused, once: where a `Pack` is made.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flash_pipeline.errors import AttentionUnsupported, InvalidInput
from flash_pipeline.model.attention import BackendChoice, choose_backend, kernel_of
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.kernels.packed import (
    Group,
    flash_packed,
    group_by_length,
    grouped,
    torch_packed,
)
from flash_pipeline.model.refusals import AttentionCall, refusal


@dataclass(frozen=True)
class Sequences:
    """How a pack is cut into sequences.

    Examples
    --------
    >>> cut = Sequences.of([2, 0, 3], torch.device("cpu"))
    >>> cut.starts.tolist(), cut.n_tokens, cut.longest
    ([0, 2, 2, 5], 5, 3)
    """

    lengths: tuple[int, ...]
    """Tokens of each sequence, 0 or more."""
    starts: Tensor
    """Where each begins, and the end of the last: int32 [S + 1], what kernels call `cu_seqlens`."""

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Sequences":
        """Return the cut for lengths, its starts on the device of the tokens.

        Raises
        ------
        InvalidInput
            If there is no sequence, or a length is negative.
        """
        if not lengths or min(lengths) < 0:
            raise InvalidInput(f"lengths is {list(lengths)[:8]}: expected one or more, 0 or above")
        starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
        return cls(tuple(lengths), starts.to(device, non_blocking=True))  # waits for no layer

    @functools.cached_property
    def n_tokens(self) -> int:
        """Tokens of the pack."""
        return sum(self.lengths)

    @functools.cached_property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)


@dataclass(frozen=True, eq=False)
class Pack:
    """Cuts of queries and of keys that fit each other, for any number of calls; see `of`."""

    queries: Sequences
    """Cut of the queries."""
    keys: Sequences
    """Cut of keys and values, into as many sequences, each with a key for its queries."""

    @classmethod
    def of(cls, queries: Sequences, keys: Sequences | None = None) -> "Pack":
        """Return the pack of two cuts.

        Parameters
        ----------
        queries : Sequences
            Cut of the queries.
        keys : Sequences or None
            Cut of keys and values; None for that of the queries.

        Raises
        ------
        InvalidInput
            If they differ in their number of sequences, or a sequence has queries and no key.
        """
        pack = cls(queries, queries if keys is None else keys)
        found = len(pack.queries.lengths), len(pack.keys.lengths)
        if found[0] != found[1]:
            raise InvalidInput(
                f"queries have {found[0]} sequences, keys {found[1]}: expected as many"
            )
        for i, (asked, seen) in enumerate(pack._pairs()):
            if asked and not seen:
                raise InvalidInput(
                    f"sequence {i} has {asked} queries and 0 keys: expected a key for its queries"
                )
        return pack

    @functools.cached_property
    def unlike(self) -> tuple[int, int, int] | None:
        """The first sequence that has not as many queries as keys, and both; None: all have."""
        unlike = ((i, *pair) for i, pair in enumerate(self._pairs()) if pair[0] != pair[1])
        return next(unlike, None)

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """Sequences of equal lengths together, for `grouped`."""
        return group_by_length(self.queries.lengths, self.keys.lengths, self.queries.starts.device)

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.queries.lengths, self.keys.lengths, strict=True)


def attend_packed(
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    queries: Sequences | Pack,
    keys: Sequences | None = None,
    *,
    causal: bool = False,
    dropout_p: float = 0.0,
    backend: AttentionName | BackendChoice,
) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(D)) v within each sequence of a pack.

    Parameters
    ----------
    q_NHD, k_MHD, v_MHD : Tensor
        Queries, keys and values of one dtype and device, sequence after sequence.
    queries : Sequences or Pack
        Cut of the queries; or that of the keys too, checked before, for calls of many layers.
    keys : Sequences or None
        Cut of keys and values, into as many sequences; None for that of the queries, and beside a
        `Pack`.
    causal : bool
        Whether a query sees only the keys up to its own place in its sequence; then the cuts are
        the same.
    dropout_p : float
        As for `attend`.
    backend : str or BackendChoice
        As for `choose_backend`, for a call with `packed`.

    Returns
    -------
    o_NHD : Tensor
        In the dtype of the queries.

    Raises
    ------
    AttentionUnsupported
        If the backend cannot honour the call.
    InvalidInput
        If shapes, dtypes or cuts do not fit, or a sequence has queries and no key.
    """
    if isinstance(queries, Pack) and keys is not None:
        raise InvalidInput("a Pack has the cut of its keys: expected keys=None beside it")
    pack = queries if isinstance(queries, Pack) else Pack.of(queries, keys)
    _check(q_NHD, k_MHD, v_MHD, pack, causal=causal)
    if not 0 <= dropout_p < 1:
        raise InvalidInput(f"dropout_p is {dropout_p}: expected at least 0 and below 1")
    call = packed_call(q_NHD, pack.keys, causal=causal, dropout=dropout_p > 0)
    choice = backend if isinstance(backend, BackendChoice) else choose_backend(call, backend)
    name = choice.name
    if isinstance(backend, BackendChoice) and (reason := refusal(name, call)) is not None:
        raise AttentionUnsupported(f"{name} was chosen before, but {reason}")
    if pack.queries.n_tokens == 0:
        return q_NHD * 0
    with torch.autocast(q_NHD.device.type, enabled=False):
        if name in ("flash_attn", "sdpa_flash"):
            kernel = flash_packed if name == "flash_attn" else torch_packed
            return kernel(
                q_NHD,
                k_MHD,
                v_MHD,
                pack.queries.starts,
                pack.keys.starts,
                (pack.queries.longest, pack.keys.longest),
                causal=causal,
                dropout_p=dropout_p,
            )
        return grouped(
            kernel_of(name),
            q_NHD,
            k_MHD,
            v_MHD,
            pack.groups,
            causal=causal,
            dropout_p=dropout_p,
        )


def packed_call(q_NHD: Tensor, keys: Sequences, *, causal: bool, dropout: bool) -> AttentionCall:
    """Return the call that a pack makes in the torch mode of the moment."""
    return AttentionCall(
        q_NHD.device,
        q_NHD.dtype,
        q_NHD.shape[-1],
        max(keys.longest, 1),
        causal=causal,
        dropout=dropout,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        packed=True,
    )


def _check(q_NHD: Tensor, k_MHD: Tensor, v_MHD: Tensor, pack: Pack, *, causal: bool) -> None:
    if q_NHD.ndim != 3:
        raise InvalidInput(f"q has the shape {tuple(q_NHD.shape)}: expected [N, H, D]")
    queries, keys = pack.queries, pack.keys
    for name, x_NHD, cut in (("q", q_NHD, queries), ("k", k_MHD, keys), ("v", v_MHD, keys)):
        expected = (cut.n_tokens, *q_NHD.shape[1:])
        if tuple(x_NHD.shape) != expected:
            raise InvalidInput(
                f"{name} has the shape {tuple(x_NHD.shape)}: expected {expected}, by the sequences"
            )
        if x_NHD.dtype != q_NHD.dtype:
            raise InvalidInput(f"{name} is {x_NHD.dtype}: expected q's dtype, {q_NHD.dtype}")
    if causal and pack.unlike is not None:
        place, asked, seen = pack.unlike
        raise InvalidInput(
            f"sequence {place} has {asked} queries and {seen} keys: expected as many of both, "
            "with causal=True"
        )
