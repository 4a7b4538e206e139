"""What a simulation returns.

T bars · S symbols
"""

from dataclasses import dataclass

import numpy as np

from flash_pipeline.backtest.prices import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """The ledger of a simulation, one row per bar.

    The account starts with 1.0 before the first bar; `equity_with_start` has it in front.
    For every bar `equity[t] - equity[t - 1] = pnl_TS[t].sum() - costs_paid_TS[t].sum()`.
    """

    symbols: tuple[str, ...]
    """Names of the columns, in order."""
    start_time_T: IntArray
    """Open of every bar, ms since the epoch, UTC."""
    equity_T: FloatArray
    """Equity at the bar's close, net of costs, as a multiple of the starting equity."""
    returns_T: FloatArray
    """Simple return from the previous close to this one, net of costs; 0 after a liquidation."""
    gross_returns_T: FloatArray
    """The same bar's return had its own trades cost nothing."""
    costs_T: FloatArray
    """Fee and slippage of the bar's trades, a fraction of the equity at the bar's open."""
    turnover_T: FloatArray
    """Traded notional at the bar's open, a fraction of the equity there; 2 is a full reversal."""
    weights_TS: FloatArray
    """Signed notional held from the bar's open on, a fraction of the equity after the fill."""
    pnl_TS: FloatArray
    """Profit of each symbol before costs, in units of the starting equity."""
    costs_paid_TS: FloatArray
    """Costs of each symbol's trades, in units of the starting equity."""
    n_trades: int
    """Orders filled: one per symbol and bar in which its weight changes."""
    liquidated: bool
    """Whether the equity reached zero, where the simulation stops."""

    @property
    def bar_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return int(self.start_time_T[1] - self.start_time_T[0])

    @property
    def end_time(self) -> int:
        """Close of the last bar, ms since the epoch, UTC."""
        return int(self.start_time_T[-1]) + self.bar_ms

    @property
    def equity_with_start(self) -> FloatArray:
        """Equity at the first open and at every close, shape [T + 1]."""
        return np.concatenate([[1.0], self.equity_T])

    @property
    def time_with_start(self) -> IntArray:
        """Instants of `equity_with_start`, ms since the epoch, UTC, shape [T + 1]."""
        return np.append(self.start_time_T, self.end_time)

    @property
    def gross_T(self) -> FloatArray:
        """Sum of the absolute weights held in each bar."""
        return np.asarray(np.abs(self.weights_TS).sum(axis=1))

    @property
    def active_T(self) -> BoolArray:
        """Bars with a position, the bar whose open closes it included: it earns the gap."""
        return np.asarray((self.gross_T > 0) | (self.turnover_T > 0))

    @property
    def net_pnl_S(self) -> FloatArray:
        """Profit of each symbol after its costs, in units of the starting equity.

        The sum over the symbols is the total return.
        """
        return np.asarray((self.pnl_TS - self.costs_paid_TS).sum(axis=0))
