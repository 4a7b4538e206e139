"""The seam for sequences of varying length: `attend` over a pack instead of rows of one length.

Shape letters: N queries and M keys of all sequences end to end, S sequences, H heads, D head size.

What is absent is not in the pack at all, so nothing is filled and no work is spent on it. As for
`attend`, a backend that cannot honour a call says so: no argument is ever dropped.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flash_pipeline.errors import AttentionUnsupported, InvalidInput
from flash_pipeline.model.attention import BackendChoice, choose_backend, kernel_of
from flash_pipeline.model.config import AttentionName
from flash_pipeline.model.kernels.packed import flash_packed, grouped, torch_packed
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
        starts = [0, *itertools.accumulate(lengths)]
        return cls(tuple(lengths), torch.tensor(starts, dtype=torch.int32, device=device))

    @property
    def n_tokens(self) -> int:
        """Tokens of the pack."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)


def attend_packed(
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    queries: Sequences,
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
    queries : Sequences
        Cut of the queries.
    keys : Sequences or None
        Cut of keys and values, into as many sequences; None for that of the queries.
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
    keys = queries if keys is None else keys
    _check(q_NHD, k_MHD, v_MHD, queries, keys, causal=causal)
    if not 0 <= dropout_p < 1:
        raise InvalidInput(f"dropout_p is {dropout_p}: expected at least 0 and below 1")
    call = packed_call(q_NHD, keys, causal=causal, dropout=dropout_p > 0)
    choice = backend if isinstance(backend, BackendChoice) else choose_backend(call, backend)
    name = choice.name
    if isinstance(backend, BackendChoice) and (reason := refusal(name, call)) is not None:
        raise AttentionUnsupported(f"{name} was chosen before, but {reason}")
    if queries.n_tokens == 0:
        return q_NHD * 0
    with torch.autocast(q_NHD.device.type, enabled=False):
        if name in ("flash_attn", "sdpa_flash"):
            kernel = flash_packed if name == "flash_attn" else torch_packed
            return kernel(
                q_NHD,
                k_MHD,
                v_MHD,
                queries.starts,
                keys.starts,
                (queries.longest, keys.longest),
                causal=causal,
                dropout_p=dropout_p,
            )
        return grouped(
            kernel_of(name),
            q_NHD,
            k_MHD,
            v_MHD,
            queries.lengths,
            keys.lengths,
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


def _check(
    q_NHD: Tensor,
    k_MHD: Tensor,
    v_MHD: Tensor,
    queries: Sequences,
    keys: Sequences,
    *,
    causal: bool,
) -> None:
    if q_NHD.ndim != 3:
        raise InvalidInput(f"q has the shape {tuple(q_NHD.shape)}: expected [N, H, D]")
    for name, x_NHD, cut in (("q", q_NHD, queries), ("k", k_MHD, keys), ("v", v_MHD, keys)):
        expected = (cut.n_tokens, *q_NHD.shape[1:])
        if tuple(x_NHD.shape) != expected:
            raise InvalidInput(
                f"{name} has the shape {tuple(x_NHD.shape)}: expected {expected}, by the sequences"
            )
        if x_NHD.dtype != q_NHD.dtype:
            raise InvalidInput(f"{name} is {x_NHD.dtype}: expected q's dtype, {q_NHD.dtype}")
    if len(queries.lengths) != len(keys.lengths):
        raise InvalidInput(
            f"queries have {len(queries.lengths)} sequences, keys {len(keys.lengths)}: "
            "expected as many"
        )
    for i, (asked, seen) in enumerate(zip(queries.lengths, keys.lengths, strict=True)):
        if (asked and not seen) or (causal and asked != seen):
            raise InvalidInput(
                f"sequence {i} has {asked} queries and {seen} keys: expected "
                f"{'as many of both, with causal=True' if causal else 'a key for its queries'}"
            )
