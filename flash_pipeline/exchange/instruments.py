"""Instruments: linear perpetual contracts and the grids of their prices and quantities."""

from dataclasses import dataclass
from decimal import Decimal

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.market import Interval, parse_symbol

QUOTE_COIN = "USDT"
"""Quote and settlement coin of every instrument here."""


@dataclass(frozen=True)
class Instrument:
    """A linear perpetual contract.

    Raises
    ------
    InvalidSymbol
        If the symbol is malformed.
    InvalidConfig
        If a step or the funding interval is not positive, or the delisting is no UTC midnight.
    """

    symbol: str
    """Such as `BTCUSDT`."""
    launch_ms: int
    """Start of its first candle, ms since the epoch, UTC."""
    tick_size: Decimal
    """Smallest price step, in the quote coin."""
    quantity_step: Decimal
    """Smallest quantity step, in the base coin."""
    funding_minutes: int = 480
    """Minutes between two funding settlements."""
    delist_ms: int | None = None
    """First instant without trading, ms since the epoch, on the grid of days; None while it
    trades on."""

    def __post_init__(self) -> None:
        parse_symbol(self.symbol)
        for name, value in (
            ("tick_size", self.tick_size),
            ("quantity_step", self.quantity_step),
            ("funding_minutes", self.funding_minutes),
        ):
            if value <= 0:
                raise InvalidConfig(f"{name} {value} of {self.symbol} is not positive")
        if self.delist_ms is not None and self.delist_ms % Interval.DAY_1.milliseconds:
            raise InvalidConfig(f"delist_ms {self.delist_ms} of {self.symbol} is no UTC midnight")

    @property
    def base_coin(self) -> str:
        """The coin that is traded: `BTC` of `BTCUSDT`."""
        return self.symbol.removesuffix(QUOTE_COIN)

    def status(self, now_ms: int) -> str:
        """Return `PreLaunch`, `Trading` or `Closed`, as the exchange calls it at an instant."""
        if now_ms < self.launch_ms:
            return "PreLaunch"
        return "Closed" if self.delist_ms is not None and now_ms >= self.delist_ms else "Trading"

    def last_traded(self, now_ms: int) -> int:
        """Return the last instant up to `now_ms` that may have had a trade, ms."""
        return now_ms if self.delist_ms is None else min(now_ms, self.delist_ms - 1)


@dataclass(frozen=True)
class Step:
    """A decimal step as `units / 10 ** decimals`, so that multiples of it stay exact.

    Examples
    --------
    >>> Step.of(Decimal("0.05"))
    Step(units=5, decimals=2)
    """

    units: int
    """Positive integer."""
    decimals: int
    """Digits after the point."""

    @classmethod
    def of(cls, value: Decimal) -> "Step":
        """Return the step of a positive finite decimal."""
        decimals = max(0, -int(value.normalize().as_tuple().exponent))
        return cls(int(value.scaleb(decimals)), decimals)

    def times(self, other: "Step") -> "Step":
        """Return the product: the step of turnover, for those of price and quantity."""
        return Step(self.units * other.units, self.decimals + other.decimals)
