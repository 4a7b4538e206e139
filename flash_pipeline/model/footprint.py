"""Memory of attention that grows with the square of the length, so that passes are cut to fit."""

from flash_pipeline.model.refusals import AttentionCall, BackendName
from flash_pipeline.model.trader import FlashAttentionTrader

SCORE_BYTES = 2**31
"""Most bytes of scores and masks in one pass without gradients."""

_PER_PAIR = 16  # of query and key: scores, the same masked, weights and those dropped, in float32


def fitting_rows(model: FlashAttentionTrader, n_bars: int, *, masked: bool) -> int | None:
    """Return how many rows fit into one pass, at least 1; None where the length is no bound.

    Parameters
    ----------
    model : FlashAttentionTrader
        In the mode, and under the autocast, of the pass.
    n_bars : int
        Bars of a row.
    masked : bool
        Whether bars are masked.
    """
    row = _row_bytes(model, n_bars, masked)
    return None if row == 0 else max(1, SCORE_BYTES // row)


def fitting_chunk(model: FlashAttentionTrader, n_bars: int, most: int, *, masked: bool) -> int:
    """Return how many bars beyond a model's reach fit into one pass of one row, at least 1.

    Parameters
    ----------
    model, masked
        As for `fitting_rows`; the model streams.
    n_bars : int
        Bars of the whole series: no pass is longer.
    most : int
        Largest answer.
    """
    reach = model.config.reach
    assert reach is not None
    chunk = most
    while chunk > 1 and _row_bytes(model, min(n_bars, chunk + reach - 1), masked) > SCORE_BYTES:
        chunk //= 2
    return chunk


def _row_bytes(model: FlashAttentionTrader, n_bars: int, masked: bool) -> int:
    call = model.attention_call(n_bars, masked)
    if not _forms_pairs(model.choose_attention(n_bars, masked).name, call):
        return 0
    return _PER_PAIR * model.config.n_heads * call.length**2


def _forms_pairs(name: BackendName, call: AttentionCall) -> bool:
    """Say whether a backend holds something for every pair of bars: scores, or a mask."""
    if name in ("sdpa", "sdpa_efficient"):
        return call.window is not None or (call.has_mask and call.causal)
    return name == "reference"
