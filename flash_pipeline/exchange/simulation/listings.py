"""The simulated instruments.

Names, launch dates and steps resemble those of real USDT perpetuals; the numbers that drive the
simulation are round figures of the right size. Nothing here is fitted to real prices.
"""

from decimal import Decimal

from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.simulation.asset import AssetSpec
from flash_pipeline.market import parse_instant

MARKET_VOLATILITY = 0.45
"""Yearly standard deviation of the market factor's log returns."""

SECTOR_VOLATILITY = 0.35
"""Yearly standard deviation of a sector factor's log returns."""


def _spec(
    symbol: str,
    launch: str,
    steps: tuple[str, str],
    anchor: float,
    risk: tuple[float, float],
    millions: float,
    funding_minutes: int = 480,
) -> AssetSpec:
    instrument = Instrument(
        symbol, parse_instant(launch), Decimal(steps[0]), Decimal(steps[1]), funding_minutes
    )
    return AssetSpec(
        instrument, anchor, beta=risk[0], volatility=risk[1], daily_turnover=millions * 1e6
    )


LISTINGS: tuple[AssetSpec, ...] = (
    _spec("1000PEPEUSDT", "2023-05-05T06:00Z", ("0.0000001", "100"), 0.012, (1.5, 0.90), 400),
    _spec("ADAUSDT", "2021-01-13T07:00Z", ("0.0001", "1"), 0.80, (1.2, 0.55), 150),
    _spec("ARBUSDT", "2023-03-16T08:00Z", ("0.0001", "0.1"), 1.20, (1.3, 0.70), 100),
    _spec("ASTERUSDT", "2025-09-19T08:00Z", ("0.0001", "1"), 1.50, (1.3, 1.10), 300, 240),
    _spec("AVAXUSDT", "2021-09-10T03:00Z", ("0.001", "0.1"), 40, (1.4, 0.65), 120),
    _spec("BNBUSDT", "2021-06-29T06:00Z", ("0.05", "0.01"), 500, (0.9, 0.35), 250),
    _spec("BTCUSDT", "2020-03-25T10:00Z", ("0.1", "0.001"), 60000, (1.0, 0.15), 6000),
    _spec("DOGEUSDT", "2021-06-02T06:00Z", ("0.00001", "1"), 0.20, (1.3, 0.75), 600),
    _spec("DOTUSDT", "2021-01-13T07:00Z", ("0.001", "0.1"), 10, (1.2, 0.55), 80),
    _spec("ETHUSDT", "2020-10-21T02:00Z", ("0.01", "0.01"), 3200, (1.15, 0.30), 3500),
    _spec("LINKUSDT", "2020-10-21T02:00Z", ("0.001", "0.1"), 16, (1.2, 0.55), 120),
    _spec("LTCUSDT", "2020-10-21T02:00Z", ("0.01", "0.1"), 110, (1.0, 0.45), 120),
    _spec("SOLUSDT", "2021-06-29T06:00Z", ("0.01", "0.1"), 160, (1.35, 0.60), 1500),
    _spec("SUIUSDT", "2023-05-03T12:00Z", ("0.0001", "10"), 2.0, (1.4, 0.80), 350, 240),
    _spec("TRXUSDT", "2021-08-12T03:00Z", ("0.00001", "1"), 0.15, (0.6, 0.40), 60),
    _spec("XRPUSDT", "2021-05-13T06:00Z", ("0.0001", "0.1"), 1.0, (1.05, 0.60), 900),
)
"""Every simulated asset, sorted by symbol."""
