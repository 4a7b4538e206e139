"""The tickers that are charted, and what Yahoo says of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from flash_pipeline.exchange.instruments import QUOTE_COIN, Instrument
from flash_pipeline.exchange.simulation.asset import AssetSpec
from flash_pipeline.exchange.source import Market
from flash_pipeline.exchange.yahoo.sessions import Hours, NewYork, RoundTheClock
from flash_pipeline.market import parse_instant

_LAUNCH = parse_instant("2020-01-02")
_CENT = Decimal("0.01")


@dataclass(frozen=True)
class Ticker:
    """Something with a chart."""

    name: str
    """As Yahoo calls it: `BTC-USD`, `SPY`, `^GSPC`."""
    symbol: str
    """As the market behind it calls it."""
    kind: str
    """`CRYPTOCURRENCY`, `ETF`, `EQUITY` or `INDEX`."""
    venue: tuple[str, str]
    """Short and full name of where it trades."""
    long_name: str
    """For people."""
    hours: Hours
    """When it trades."""
    dividend: float = 0.0
    """Part of the price that is paid out each quarter, which `adjclose` takes off the past."""


def _stock(
    ticker: Ticker, anchor: float, risk: tuple[float, float], millions: float
) -> tuple[Ticker, AssetSpec]:
    instrument = Instrument(ticker.symbol, _LAUNCH, _CENT, Decimal(1))
    spec = AssetSpec(
        instrument, anchor, beta=risk[0], volatility=risk[1], daily_turnover=millions * 1e6
    )
    return ticker, spec


_NYSE_ARCA, _NASDAQ, _SNP = ("PCX", "NYSEArca"), ("NMS", "NasdaqGS"), ("SNP", "SNP")
_STOCKS = (
    _stock(
        Ticker("SPY", "SPY", "ETF", _NYSE_ARCA, "Simulated S&P 500 fund", NewYork(), 0.0035),
        450.0,
        (0.22, 0.12),
        120_000,
    ),
    _stock(
        Ticker("AAPL", "AAPL", "EQUITY", _NASDAQ, "Simulated share", NewYork(), 0.0012),
        180.0,
        (0.28, 0.22),
        40_000,
    ),
    _stock(
        Ticker("^GSPC", "GSPC", "INDEX", _SNP, "Simulated index", NewYork()),
        4500.0,
        (0.22, 0.11),
        900_000,
    ),
)

STOCK_LISTINGS: tuple[AssetSpec, ...] = tuple(spec for _, spec in _STOCKS)
"""What simulates the stocks and the index; anchors are round figures."""


def stock_tickers() -> Mapping[str, Ticker]:
    """Return the tickers of `STOCK_LISTINGS` by their names."""
    return {ticker.name: ticker for ticker, _ in _STOCKS}


def coin_ticker(market: Market, name: str) -> Ticker | None:
    """Return the ticker of a coin of the market: `BTC-USD` for BTCUSDT; None where it has none."""
    coin, dash, quote = name.partition("-")
    symbol = coin + QUOTE_COIN
    if not dash or quote != "USD" or symbol not in market.instruments:
        return None
    venue = ("CCC", "CCC")
    return Ticker(name, symbol, "CRYPTOCURRENCY", venue, f"{coin} USD", RoundTheClock())
