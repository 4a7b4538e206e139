"""What everyone in a contest trades under: costs, account, lots, caps and funding.

Shape letters: T bars, S symbols.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from flash_pipeline.backtest import (
    Account,
    BacktestResult,
    Costs,
    KnownFunding,
    Lots,
    Prices,
    buy_and_hold,
    capped,
    known_funding,
    simulate,
)
from flash_pipeline.errors import InvalidConfig
from flash_pipeline.evaluation.trading import Floats


@dataclass(frozen=True, eq=False)
class Terms:
    """What trades cost, and what bounds them; the same for every contestant.

    Raises
    ------
    InvalidConfig
        If a cap is no positive number.
    """

    costs: Costs = field(default_factory=Costs)
    """Fees, slippage and impact."""
    account: Account = field(default_factory=Account)
    """Capital and maintenance margin; its lots are those of the instruments."""
    gross_cap: float | None = None
    """Largest sum of the sizes of the weights, in equities: larger weights are scaled down. It
    raises no model's own. None for the model's own: 1, or that of an allocation head."""
    symbol_cap: float | None = None
    """Largest size of one weight, in equities: larger ones are cut. None for no such cap."""
    instruments: pa.Table | None = None
    """Steps and minima of orders, of `Lots.from_instruments`; None trades any fraction."""
    funding: pa.Table | None = None
    """Settlements, of `known_funding`, maybe no row; None charges no funding."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """What is left out because its file cannot be read (`Lots`, `Funding`), and the reason."""

    def __post_init__(self) -> None:
        for name in ("gross_cap", "symbol_cap"):
            cap = getattr(self, name)
            if cap is not None and not (math.isfinite(cap) and cap > 0):
                raise InvalidConfig(f"{name} is {cap!r}: expected a number above 0")


@dataclass(frozen=True, eq=False)
class Venue:
    """The bars of a contest, and how they are traded."""

    prices: Prices
    """The bars."""
    terms: Terms
    """As given."""
    account: Account
    """With the lots of the prices' symbols."""
    funding: KnownFunding
    """Of the bars."""
    remarks: tuple[tuple[str, str], ...]
    """What the terms come to, symbol by symbol where they differ: a name and a few words each."""

    def trade(self, weights_TS: Floats, gross_cap: float = 1.0) -> BacktestResult:
        """Simulate target weights, none before a symbol's first close.

        Parameters
        ----------
        weights_TS : array [T, S]
            Of `simulate`; finite, and within the model's own cap.
        gross_cap : float
            The model's own cap, above 0.

        Raises
        ------
        InvalidInput
            As `simulate`.
        """
        terms = self.terms
        cap = gross_cap if terms.gross_cap is None else min(gross_cap, terms.gross_cap)
        weights_TS = np.where(np.isnan(self.prices.close_TS), 0.0, weights_TS)
        if cap < gross_cap or terms.symbol_cap is not None:
            weights_TS = capped(weights_TS, gross_cap=cap, symbol_cap=terms.symbol_cap)
        return simulate(
            weights_TS,
            self.prices,
            terms.costs,
            gross_cap=cap,
            symbol_cap=terms.symbol_cap,
            funding_TS=self.funding.rate_TS,
            account=self.account,
        )

    def buy_and_hold(self) -> BacktestResult:
        """Simulate buying equal weights once, on the same terms but for the caps."""
        return buy_and_hold(
            self.prices, self.terms.costs, funding_TS=self.funding.rate_TS, account=self.account
        )


def open_venue(terms: Terms, prices: Prices) -> Venue:
    """Apply terms to the bars of a contest."""
    remarks = list(_caps(terms))
    account = terms.account
    if terms.instruments is not None:
        lots = Lots.from_instruments(terms.instruments, prices.symbols, unlisted=True)
        account = replace(account, lots=lots)
        listed = set(terms.instruments["symbol"].to_pylist())
        free = [symbol for symbol in prices.symbols if symbol not in listed]
        remarks.append(("Lots", "as the exchange sets them today" + _but(free, "any fraction of")))
    elif "Lots" in terms.unread:
        remarks.append(("Lots", f"any fraction: {terms.unread['Lots']}"))
    if terms.costs.impact:
        prices, thick = _with_turnover(prices)
        if thick:
            remarks.append(("No market impact", f"of {', '.join(thick)}: no turnover is known"))
    funding = known_funding(terms.funding, prices)
    if "Funding" in terms.unread:
        funding = KnownFunding(None, f"not charged: {terms.unread['Funding']}")
    return Venue(prices, terms, account, funding, tuple(remarks))


def _caps(terms: Terms) -> Sequence[tuple[str, str]]:
    caps = {"Gross cap": terms.gross_cap, "Cap of one symbol": terms.symbol_cap}
    return [
        (name, f"{cap:g} times the equity, larger weights are cut")
        for name, cap in caps.items()
        if cap is not None
    ]


def _but(symbols: Sequence[str], words: str) -> str:
    return f"; {words} {', '.join(symbols)}" if symbols else ""


def _with_turnover(prices: Prices) -> tuple[Prices, list[str]]:
    """Fill the turnover before a symbol's first known one; name those that have none at all.

    The first known one stands in: it prices a fill, nothing that a forecast sees.
    """
    if prices.turnover_TS is None:
        return prices, []
    turnover_TS = prices.turnover_TS.copy()
    known_TS = turnover_TS > 0
    thick = []
    for column, symbol in enumerate(prices.symbols):
        first = int(np.argmax(known_TS[:, column]))
        if not known_TS[first, column]:
            turnover_TS[:, column] = np.inf
            thick.append(symbol)
        else:
            turnover_TS[:first, column] = turnover_TS[first, column]
    return replace(prices, turnover_TS=turnover_TS), thick
