"""What stands behind the exchange: a market that can be asked about its past."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from flash_pipeline.errors import InvalidSymbol
from flash_pipeline.exchange.candles import Candles
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.market import Interval

if TYPE_CHECKING:  # the simulation imports this module
    from flash_pipeline.exchange.simulation.order_flow import OrderFlow


@dataclass(frozen=True)
class CandleRequest:
    """Which candles of a symbol are asked for."""

    symbol: str
    """A symbol of the market's instruments."""
    interval: Interval
    """Length of the candles."""
    first: int
    """An instant within the first candle, ms since the epoch."""
    last: int
    """An instant within the last candle, ms since the epoch."""
    limit: int
    """Candles at most: the newest ones of the range."""


@dataclass(frozen=True)
class FundingRate:
    """The rate that longs paid shorts at one settlement."""

    time_ms: int
    """Settlement, ms since the epoch, UTC."""
    rate: float
    """Fraction of the position's value; negative where shorts paid longs."""


class Market(Protocol):
    """A source of market data.

    No method tells anything that was not known at `now` (ms since the epoch). An unknown symbol
    raises `InvalidSymbol`.
    """

    @property
    def kind(self) -> str:
        """`simulated` or `replay`: what clients label their results with."""
        ...

    @property
    def description(self) -> str:
        """One line for people on where the numbers come from."""
        ...

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """Every instrument by its symbol, sorted by it, unlaunched and delisted ones included."""
        ...

    def candles(self, request: CandleRequest, now: int) -> Candles:
        """Return candles in coins, oldest first, the forming one as far as it is known.

        Raises
        ------
        InvalidInterval
            If the market has no candles that fine.
        """
        ...

    def funding(
        self, symbol: str, first: int, last: int, limit: int, now: int
    ) -> Sequence[FundingRate]:
        """Return the newest `limit` settlements from `first` to `last`, oldest first."""
        ...

    def last_price(self, symbol: str, now: int) -> float | None:
        """Return the latest price in the quote coin; None before the listing."""
        ...

    def order_flow(self, symbol: str) -> "OrderFlow | None":
        """Return what an order book is made of; None where the market has none."""
        ...


def invents(market: Market) -> bool:
    """Say whether what was not traded may be made up: mark price, book, open interest.

    Only in a simulation, which is labelled as one. Made up beside recorded numbers it would pass
    for real, so a replay answers that it has none.
    """
    return market.kind == "simulated"


def listed_instrument(market: Market, symbol: str) -> Instrument:
    """Return the instrument of a symbol.

    Raises
    ------
    InvalidSymbol
        If the market has none of that name.
    """
    instrument = market.instruments.get(symbol)
    if instrument is None:
        raise InvalidSymbol(f"symbol {symbol!r} is not listed on this exchange")
    return instrument
