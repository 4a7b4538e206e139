"""What a backtest did around bars in which a symbol was not traded: halts, nights, weekends.

T bars · S symbols
"""

from dataclasses import asdict, dataclass

import numpy as np

from flash_pipeline.backtest.prices import BoolArray, FloatArray
from flash_pipeline.backtest.result import BacktestResult
from flash_pipeline.market import iso_utc


@dataclass(frozen=True)
class Openings:
    """How much waited for symbols to open again."""

    frozen_share_fraction: float
    """Part of all positions, bar by bar in multiples of the equity, that could not be traded."""
    turnover_share_fraction: float
    """Part of the traded notional that was filled at first opens after bars without one."""
    pnl_fraction: float
    """Profit of the moves over such bars before costs, booked at those opens, a fraction of the
    starting equity."""
    still_closed: tuple[tuple[str, int], ...]
    """Symbols held at the end that have no bar any more, each with the close of its last one, ms
    since the epoch, at which it is marked."""

    def as_json(self) -> dict[str, object]:
        """Return the figures by name, times in ISO 8601."""
        closed = {symbol: iso_utc(time) for symbol, time in self.still_closed}
        return {**asdict(self), "still_closed": closed}

    def __str__(self) -> str:
        """Say it in words."""
        told = [
            "what is held is frozen and orders wait for the next own open "
            f"({self.frozen_share_fraction:.1%} of the positions)",
            f"{self.turnover_share_fraction:.1%} of the turnover was filled at such openings, "
            f"where {self.pnl_fraction:+.2%} of the starting equity was booked",
        ]
        told += [
            f"{symbol} has had no bar since {iso_utc(time)} and is marked at its last close"
            for symbol, time in self.still_closed
        ]
        return "; ".join(told)


def openings(result: BacktestResult) -> Openings | None:
    """Measure what waited for openings; None where every symbol had all its bars."""
    real_TS = result.prices.real_TS
    if real_TS is None:
        return None
    opens_TS = np.zeros_like(real_TS)
    opens_TS[1:] = real_TS[1:] & ~real_TS[:-1]
    size_TS = np.abs(result.weights_TS)
    pnl_TS = np.where(opens_TS, _gap_pnl(result), 0.0)
    return Openings(
        frozen_share_fraction=_share(size_TS, ~real_TS),
        turnover_share_fraction=_share(np.abs(result.orders_TS), opens_TS),
        pnl_fraction=float(pnl_TS.sum()),
        still_closed=tuple(
            (symbol, int(result.start_time_T[np.flatnonzero(real_TS[:, s])[-1]]) + result.bar_ms)
            for s, symbol in enumerate(result.symbols)
            if size_TS[-1, s] > 0 and not real_TS[-1, s]
        ),
    )


def _gap_pnl(result: BacktestResult) -> FloatArray:
    """Return what each symbol gained from the close before to each open, in starting equities."""
    gap_TS = np.zeros_like(result.weights_TS)
    held_TS = result.weights_TS * result.open_equity_T[:, None]
    gap_TS[1:] = held_TS[:-1] * result.prices.moves.gap_ST.T[:-1]
    end = result.liquidation
    if end is not None and end.at_open:  # a loss beyond what there was is the exchange's
        gap_TS[end.bar] = result.pnl_TS[end.bar]
    return gap_TS


def _share(size_TS: FloatArray, chosen_TS: BoolArray) -> float:
    total = float(size_TS.sum())
    return float(size_TS[chosen_TS].sum()) / total if total > 0 else 0.0
