"""One pass over a long series in place of one pass for every window.

Shape letters: T bars of the series, I inputs per bar, S symbols. A leading 1 is the one row.

With a sliding span and rotary positions an output depends on the last `config.reach` bars and on
nothing else. So the outputs of all windows of at least that length are those of one pass over
the series: `lookback` times less work. A long series is cut into chunks that overlap by the
reach, so that memory stays bounded whatever its length.
"""

import torch
from torch import Tensor

from flash_pipeline.errors import InvalidConfig, InvalidInput
from flash_pipeline.model.footprint import fitting_chunk
from flash_pipeline.model.sequence import evaluating
from flash_pipeline.model.trader import FlashAttentionTrader, needed_mask

CHUNK = 65_536
"""Bars whose outputs one pass gives, unless told otherwise."""


@torch.no_grad()
def stream(
    model: FlashAttentionTrader,
    x_TI: Tensor,
    valid_T: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> Tensor:
    """Return the outputs of the windows that end at each bar of a series.

    Parameters
    ----------
    model : FlashAttentionTrader
        With a sliding span and rotary positions; dropout is off inside.
    x_TI : Tensor
        Standardised inputs, oldest bar first, as for `FlashAttentionTrader.forward`.
    valid_T : Tensor of bool, optional
        False for a bar that is absent; None: every bar counts. A pass over bars that are all
        there runs without a mask.
    chunk : int or None
        Bars of output in one pass, at least 1: memory grows with it and the model's reach. None
        for `CHUNK`, or fewer where the attention's memory grows with the square of the length.

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
    reach = require_streams(model)
    if chunk is not None and chunk < 1:
        raise InvalidInput(f"chunk is {chunk}: expected at least 1 bar")
    x_1TI, valid_1T = x_TI[None], None if valid_T is None else valid_T[None]
    model.check_input(x_1TI, valid_1T)
    valid_1T = needed_mask(valid_1T)
    n_bars, parts = len(x_TI), []
    with evaluating(model):
        if chunk is None:
            chunk = fitting_chunk(model, n_bars, CHUNK, masked=valid_1T is not None)
        for start in range(0, n_bars, chunk):
            head = max(0, start - reach + 1)
            span = slice(head, start + chunk)
            mask_1T = None if valid_1T is None else needed_mask(valid_1T[:, span])
            choice = model.choose_attention(len(x_TI[span]), mask_1T is not None)
            model.announce(choice)
            outputs_1TS = model.run(x_1TI[:, span], mask_1T, choice, every_bar=True)
            parts.append(outputs_1TS[0, start - head :])
    return torch.cat(parts)


def stream_windows(
    model: FlashAttentionTrader, x_TI: Tensor, valid_T: Tensor | None, lookback: int
) -> Tensor:
    """Return what `FlashAttentionTrader.last_outputs` gives for the window that ends at each bar.

    Parameters
    ----------
    model, x_TI, valid_T
        As for `stream`, errors too.
    lookback : int
        Bars of a window, at least `config.reach`.

    Returns
    -------
    outputs_TS : Tensor
        As for `stream`, but a window that ends with absent bars is read at its last valid one;
        zeros where it has none. There it may reach less far back than the series does.
    """
    outputs_TS = stream(model, x_TI, valid_T)
    if valid_T is None:
        return outputs_TS
    bars_T = torch.arange(len(valid_T), device=valid_T.device)
    last_T = torch.where(valid_T, bars_T, -1).cummax(0).values
    within_T = (last_T >= 0) & (bars_T - last_T < lookback)
    outputs_TS = outputs_TS[last_T.clamp(min=0)]
    outputs_TS[~within_T] = 0.0
    return outputs_TS


def require_streams(model: FlashAttentionTrader) -> int:
    """Return the reach of a model that can stream.

    Raises
    ------
    InvalidConfig
        If its outputs depend on where its window begins.
    """
    config = model.config
    if not config.streams or config.reach is None:
        raise InvalidConfig(
            f"a model with span {config.span!r} and {config.positions} positions cannot stream: "
            "expected a sliding span and rotary positions"
        )
    return config.reach
