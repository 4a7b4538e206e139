"""Which instruments belong to the market as of a date, from what was known then.

Shape letters: T hours, A instruments.

Every instrument of which a candle is stored stands for election, whether it trades today or was
delisted since; what it traded before the date decides. So a later delisting drops nobody from the
past, and a later listing puts nobody into it: no survivorship.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import InvalidConfig, InvalidInput

HOUR_MS = 3_600_000

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]

_MONDAY_MS = 4 * 24 * HOUR_MS
"""The first Monday of the epoch: 1970-01-05."""


@dataclass(frozen=True)
class UniverseConfig:
    """How the instruments are chosen.

    Raises
    ------
    InvalidConfig
        If a number is below 1.
    """

    n_assets: int = 100
    """Most instruments at a time, at least 1."""
    trailing_hours: int = 720
    """Hours before the date whose turnover counts, at least 1."""
    refresh_hours: int = 168
    """Hours between two elections, at least 1; counted from a Monday, 00:00 UTC."""
    alive_hours: int = 24
    """Hours before the date in which it must have traded, at least 1: who did not is delisted or
    suspended."""

    def __post_init__(self) -> None:
        for name in ("n_assets", "trailing_hours", "refresh_hours", "alive_hours"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: expected at least 1")


def most_traded(
    turnover_TA: Floats, symbols: Sequence[str], as_of: int, config: UniverseConfig
) -> Bools:
    """Return who is among the most traded as of the open of an hour.

    Parameters
    ----------
    turnover_TA : array [T, A]
        Quote coin traded in each hour, of all instruments; NaN where there is no candle.
    symbols : sequence of str
        Their names.
    as_of : int
        Row of the hour, 0 to T. Look-ahead: only the rows before it are read.
    config : UniverseConfig
        How many, and over how long.

    Returns
    -------
    array of bool [A]
        `n_assets` or fewer: those with a candle in the last `alive_hours` and the most turnover in
        the last `trailing_hours`. Of equals the one whose name comes first in the alphabet.

    Raises
    ------
    InvalidInput
        If `as_of` is outside the hours, or the names are not as many as the columns.
    """
    if not 0 <= as_of <= len(turnover_TA):
        raise InvalidInput(f"as_of is {as_of}: expected 0 to {len(turnover_TA)}, the hours")
    if len(symbols) != turnover_TA.shape[1]:
        raise InvalidInput(
            f"{len(symbols)} symbols for {turnover_TA.shape[1]} columns: expected as many"
        )
    past_TA = turnover_TA[max(0, as_of - config.trailing_hours) : as_of]
    alive_A = np.isfinite(past_TA[-config.alive_hours :]).any(axis=0)
    traded_A = np.nansum(past_TA, axis=0)
    order = sorted(np.flatnonzero(alive_A).tolist(), key=lambda a: (-traded_A[a], symbols[a]))
    chosen_A = np.zeros(len(symbols), dtype=bool)
    chosen_A[order[: config.n_assets]] = True
    return chosen_A


def membership(
    turnover_TA: Floats, start_time_T: Times, symbols: Sequence[str], config: UniverseConfig
) -> Bools:
    """Return who belongs to the market in each hour, [T, A].

    Elections are held every `refresh_hours`, at the open of an hour, and hold up to the next one.
    The hours before the first election have no members: nothing was known.

    Parameters
    ----------
    turnover_TA, symbols, config
        As for `most_traded`.
    start_time_T : array [T]
        Opens of the hours, ms since the epoch, UTC.
    """
    member_TA = np.zeros(turnover_TA.shape, dtype=bool)
    place_T = (start_time_T - _MONDAY_MS) // HOUR_MS % config.refresh_hours
    elections = [int(row) for row in np.flatnonzero(place_T == 0) if row > 0]
    for row, after in itertools.pairwise([*elections, len(member_TA)]):
        member_TA[row:after] = most_traded(turnover_TA, symbols, row, config)
    return member_TA
