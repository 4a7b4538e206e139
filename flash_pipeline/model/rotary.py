"""Rotary positions: queries and keys turned by angles that grow with time.

Shape letters: B batch rows, T bars, H heads, D head size, R rotated pairs (D / 2).

The product of a turned query and a turned key depends on the distance between their bars alone,
so a window reads the same wherever it lies in a longer series.
"""

import torch
from torch import Tensor

ROTARY_BASE = 10_000.0
"""Wavelengths grow from 2π bars to almost 2π times this."""


def rotation(n_bars: int, head_size: int, device: torch.device) -> Tensor:
    """Return the cosines and sines of every bar and pair.

    Parameters
    ----------
    n_bars : int
        Bars, at least 1; the first has the angle 0.
    head_size : int
        An even number.
    device : torch.device
        Where they are to lie.

    Returns
    -------
    turn_2TR : Tensor
        Cosines and sines, float32. float32 angles are exact to 0.01 for a million bars.

    Notes
    -----
    Su et al. 2021, "RoFormer", section 3.2.2, equation 15.
    """
    bars_T = torch.arange(n_bars, device=device, dtype=torch.float32)
    return rotation_at(bars_T, head_size)


def rotation_at(position_T: Tensor, head_size: int) -> Tensor:
    """Return the cosines and sines turn_2TR of tokens at given positions, several at one or none.

    Parameters
    ----------
    position_T : Tensor
        Time of each token in any unit, equal for tokens of one moment.
    head_size : int
        An even number.
    """
    pairs_R = torch.arange(0, head_size, 2, device=position_T.device, dtype=torch.float32)
    frequency_R = ROTARY_BASE ** (-pairs_R / head_size)
    angle_TR = position_T.to(torch.float32)[:, None] * frequency_R
    return torch.stack([angle_TR.cos(), angle_TR.sin()])


def rotate(x_BTHD: Tensor, turn_2TR: Tensor) -> Tensor:
    """Return queries or keys turned by their bars' angles, in their own dtype.

    Entry r is paired with entry r + D / 2; the arithmetic is float32 or wider.
    """
    cos_T1R, sin_T1R = turn_2TR[:, :, None]
    first_BTHR, second_BTHR = x_BTHD.chunk(2, dim=-1)
    turned_BTHD = torch.cat(
        [
            first_BTHR * cos_T1R - second_BTHR * sin_T1R,
            second_BTHR * cos_T1R + first_BTHR * sin_T1R,
        ],
        dim=-1,
    )
    return turned_BTHD.to(x_BTHD.dtype)
