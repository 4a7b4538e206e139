"""One pass over a long series in place of one pass for every window.

Shape letters: T bars of the series, I inputs per bar, S symbols.

With a sliding span and rotary positions an output depends on the last `config.reach` bars and on
nothing else. So the outputs of all windows of at least that length are those of one pass over
the series: `lookback` times less work. A long series is cut into chunks that overlap by the
reach, so that memory stays bounded whatever its length.
"""

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.model.trader import FlashAttentionTrader, evaluating

CHUNK = 65_536
"""Bars whose outputs one pass gives, unless told otherwise."""


@torch.no_grad()
def stream(
    model: FlashAttentionTrader,
    x_TI: Tensor,
    valid_T: Tensor | None = None,
    *,
    chunk: int = CHUNK,
) -> Tensor:
    """Return the outputs of the windows that end at each bar of a series.

    Parameters
    ----------
    model : FlashAttentionTrader
        With a sliding span and rotary positions; dropout is off inside.
    x_TI : Tensor
        Standardised inputs, oldest bar first, as for `FlashAttentionTrader.forward`.
    valid_T : Tensor of bool, optional
        False for a bar that is absent; None: every bar counts.
    chunk : int
        Bars of output in one pass, at least 1: memory grows with it and the model's reach.

    Returns
    -------
    outputs_TS : Tensor
        Of every bar: [T, S], with one more axis for a quantile head. Equal to the outputs of
        windows of `config.reach` bars or more, but for rounding; the first bars' windows are
        those that the series holds. Zeros for absent bars.

    Raises
    ------
    InvalidConfig
        If the model's outputs depend on where its window begins.
    InvalidInput
        If a shape or dtype does not fit.
    """
    config = model.config
    if not config.streams or config.reach is None:
        raise InvalidConfig(
            f"a model with span {config.span!r} and {config.positions} positions cannot stream: "
            "expected a sliding span and rotary positions"
        )
    if chunk < 1:
        raise InvalidInput(f"chunk is {chunk}: expected at least 1 bar")
    x_1TI, valid_1T = x_TI[None], None if valid_T is None else valid_T[None]
    model.check_input(x_1TI, valid_1T)
    parts = []
    with evaluating(model):
        for start in range(0, x_TI.shape[0], chunk):
            head = max(0, start - config.reach + 1)
            span = slice(head, start + chunk)
            mask_1T = None if valid_1T is None else valid_1T[:, span]
            choice = model.choose_attention(len(x_TI[span]), mask_1T is not None)
            outputs_1TS = model.run(x_1TI[:, span], mask_1T, choice, every_bar=True)
            parts.append(outputs_1TS[0, start - head :])
    return torch.cat(parts)
