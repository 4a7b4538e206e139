"""Where a portfolio's decisions are traded: bars, costs, funding, delistings.

Shape letters: N decisions, T bars, A assets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.backtest import BacktestResult, Costs, Prices, known_funding, simulate
from flash_pipeline.errors import NotEnoughHistory
from flash_pipeline.market import iso_utc
from flash_pipeline.portfolio import MarketPanel

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Venue:
    """The bars of a study, and how they are traded."""

    prices: Prices
    """Bars from the first decision on."""
    offset_N: npt.NDArray[np.int64]
    """Bars from the first to each decision."""
    horizon: int
    """Hours that a decision is held."""
    costs: Costs
    """What trading costs."""
    funding_TS: Floats | None
    """Rates paid at each open; None charges none."""
    told: str
    """Which funding is charged, in words."""
    first: int
    """Row of the panel that the bars begin with."""
    last: int
    """Row of the panel that they end with."""

    @classmethod
    def open(
        cls,
        panel: MarketPanel,
        rows: Sequence[int],
        horizon: int,
        costs: Costs,
        funding: pa.Table | None,
    ) -> Self:
        """Return the bars that follow some decisions.

        Raises
        ------
        NotEnoughHistory
            If no hour follows the first decision.
        """
        first, last = rows[0], min(rows[-1] + horizon + 1, len(panel.start_time_T) - 1)
        if last <= first:
            raise NotEnoughHistory(
                f"no hour follows the decision of {iso_utc(panel.made_at(first))}"
            )
        prices = portfolio_prices(panel, first, last)
        known = known_funding(funding, prices, panel.start_time_T[_last_rows(panel)])
        offset_N = np.asarray(rows, dtype=np.int64) - first
        return cls(prices, offset_N, horizon, costs, known.rate_TS, known.told, first, last)

    def trade(self, weights_NA: Floats, gross_cap: float) -> BacktestResult:
        """Trade decisions: filled at the next open, held until the next one."""
        bar_T = np.arange(self.last - self.first + 1)
        held_T = np.searchsorted(self.offset_N, bar_T, side="right") - 1
        return simulate(
            # float32 weights may pass a cap by a rounding
            weights_NA[held_T] * (1 - 1e-6),
            self.prices,
            self.costs,
            gross_cap=max(gross_cap, 1.0),
            rebalance_every=self.horizon,
            funding_TS=self.funding_TS,
        )


def portfolio_prices(panel: MarketPanel, first: int, last: int) -> Prices:
    """Return the bars from a row to another, the latter included, as they can be traded.

    Holes are carried forward and not traded. After an asset's last candle, before the panel's end,
    it is delisted: what is held is settled at the last close, so that the next rebalancing closes
    it there, at the costs of any trade.
    """
    rows = slice(first, last + 1)
    prices = Prices(
        panel.start_time_T[rows],
        panel.open_TA[rows],
        panel.close_TA[rows],
        panel.symbols,
    ).carried_forward()
    if prices.real_TS is None:
        return prices
    marked_TA = np.isfinite(prices.close_TS)
    gone_TA = (np.arange(first, last + 1)[:, None] > _last_rows(panel)) & marked_TA
    real_TS = prices.real_TS | gone_TA
    waiting = bool((~real_TS & marked_TA).any())
    return replace(prices, real_TS=real_TS if waiting else None)


def _last_rows(panel: MarketPanel) -> npt.NDArray[np.int64]:
    """Return the row of each asset's last candle, [A]: before the last hour it was delisted."""
    there_TA = np.isfinite(panel.close_TA)
    return np.asarray(len(there_TA) - 1 - np.argmax(there_TA[::-1], axis=0), np.int64)
