"""What a simulation returns.

T bars · S symbols · K orders
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from flash_pipeline.backtest.liquidation import Liquidation
from flash_pipeline.backtest.prices import BoolArray, FloatArray, IntArray, Prices


@dataclass(frozen=True, eq=False)
class BacktestResult:
    """The ledger of a simulation, one row per bar.

    The account starts with 1.0 before the first bar; `equity_with_start` has it in front.
    For every bar `equity[t] - equity[t - 1] = pnl_TS[t].sum() - costs_paid_TS[t].sum()`.
    """

    prices: Prices
    """What was traded at."""
    open_equity_T: FloatArray
    """Equity at the bar's open after funding and before the fill, in starting equities."""
    equity_T: FloatArray
    """Equity at the bar's close, net of costs, as a multiple of the starting equity."""
    returns_T: FloatArray
    """Simple return from the previous close to this one, net of costs; 0 after a liquidation."""
    gross_returns_T: FloatArray
    """The same bar's return had its own trades cost nothing."""
    costs_T: FloatArray
    """Costs of the bar's trades, a fraction of the equity at the bar's open."""
    turnover_T: FloatArray
    """Traded notional at the bar's open, a fraction of the equity there; 2 is a full reversal."""
    gross_T: FloatArray
    """Sum of the absolute weights held in each bar."""
    weights_TS: FloatArray
    """Signed notional held from the bar's open on, a fraction of the equity before the fill."""
    orders_TS: FloatArray
    """Signed notional traded at the bar's open, a fraction of the equity before the fill."""
    cost_rate: float | FloatArray
    """Fee, slippage and impact of an order, a fraction of its notional; [T, S] with impact."""
    funding_TS: FloatArray | None = None
    """Rate that was charged at the bar's open on what was held until there."""
    liquidation: Liquidation | None = None
    """Where the account ended, from where on its equity is zero."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.prices.symbols

    @property
    def start_time_T(self) -> IntArray:
        """Open of every bar, ms since the epoch, UTC."""
        return self.prices.start_time_T

    @property
    def bar_ms(self) -> int:
        """Length of a bar in milliseconds."""
        return self.prices.bar_ms

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
    def liquidated(self) -> bool:
        """Whether the margin was gone at some bar."""
        return self.liquidation is not None

    @property
    def n_trades(self) -> int:
        """Orders filled: one per symbol and bar in which something is traded."""
        return int(np.count_nonzero(self.orders_TS))

    @cached_property
    def active_T(self) -> BoolArray:
        """Bars with a position, the bar whose open closes it included: it earns the gap."""
        return np.asarray((self.gross_T > 0) | (self.turnover_T > 0))

    @cached_property
    def costs_paid_TS(self) -> FloatArray:
        """Costs of each symbol's trades, in units of the starting equity."""
        cost_TS = np.abs(self.orders_TS) * self.cost_rate
        if self.liquidation is not None:  # whose costs may be more than there was to pay them
            total_T = cost_TS.sum(axis=1)
            cost_TS *= np.divide(
                self.costs_T, total_T, out=np.zeros_like(total_T), where=total_T > 0
            )[:, None]
        return np.asarray(cost_TS * self.open_equity_T[:, None])

    @cached_property
    def funding_paid_TS(self) -> FloatArray:
        """Funding that each symbol paid (received: below 0), in units of the starting equity."""
        paid_TS = np.zeros(self.weights_TS.shape)
        if self.funding_TS is None:
            return paid_TS
        arriving_TS = self._money_TS[:-1] * self.prices.moves.next_ST.T[:-1]
        rate_TS = np.nan_to_num(self.funding_TS[1:])  # unknown only where nothing is held
        paid_TS[1:] = arriving_TS * rate_TS
        if self.liquidation is not None:  # from there on nothing is held to the next open
            paid_TS[self.liquidation.bar + (not self.liquidation.at_open) :] = 0.0
        return paid_TS

    @cached_property
    def pnl_TS(self) -> FloatArray:
        """Profit of each symbol before costs and after funding, in units of the starting equity.

        Of a liquidation it bears its part of what was left.
        """
        moves = self.prices.moves
        pnl_TS = self._money_TS * moves.bar_ST.T
        pnl_TS[1:] += self._money_TS[:-1] * moves.gap_ST.T[:-1]
        pnl_TS -= self.funding_paid_TS
        end = self.liquidation
        if end is None:
            return pnl_TS
        pnl_TS[end.bar + 1 :] = 0.0
        if end.at_open:
            pnl_TS[end.bar] = -self.equity_T[end.bar - 1] * end.share_S
        else:
            left = self.open_equity_T[end.bar] - self.costs_paid_TS[end.bar].sum()
            pnl_TS[end.bar] -= self._money_TS[end.bar] * moves.bar_ST[:, end.bar]
            pnl_TS[end.bar] -= left * end.share_S
        return pnl_TS

    @property
    def net_pnl_S(self) -> FloatArray:
        """Profit of each symbol after its costs, in units of the starting equity.

        The sum over the symbols is the total return.
        """
        return np.asarray((self.pnl_TS - self.costs_paid_TS).sum(axis=0))

    def trades(self) -> pa.Table:
        """Return every order as a row.

        Returns
        -------
        pa.Table
            `time` (open at which it is filled, ms since the epoch, UTC), `symbol`, `price` (that
            open, quote coin), and in units of the starting equity `notional` (negative for a sale)
            and `cost`.
        """
        bar_K, column_K = np.nonzero(self.orders_TS)
        return pa.table(
            {
                "time": self.start_time_T[bar_K],
                "symbol": np.array(self.symbols)[column_K],
                "price": self.prices.open_TS[bar_K, column_K],
                "notional": self.orders_TS[bar_K, column_K] * self.open_equity_T[bar_K],
                "cost": self.costs_paid_TS[bar_K, column_K],
            }
        )

    @cached_property
    def _money_TS(self) -> FloatArray:
        return self.weights_TS * self.open_equity_T[:, None]
