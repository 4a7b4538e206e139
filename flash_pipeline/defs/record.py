"""What is on record of the candles that a source lacks, for assets, checks and the schedule."""

from collections.abc import Mapping, Sequence

from flash_pipeline.bybit import BybitClient
from flash_pipeline.ingest import Gap, Ledger, mark_price_name
from flash_pipeline.market import Interval
from flash_pipeline.settings import Settings
from flash_pipeline.yahoo import YahooClient

MARK_PRICES = mark_price_name(BybitClient.name)
"""Name under which gaps of the mark price are recorded."""


def source_name(settings: Settings, symbol: str) -> str:
    """Return the name of the source that a symbol's candles come from."""
    return YahooClient.name if symbol in dict(settings.yahoo_tickers) else BybitClient.name


def bybit_symbols(settings: Settings, symbols: Sequence[str]) -> tuple[str, ...]:
    """Return those of the symbols that are the exchange's; only they have funding and marks."""
    return tuple(s for s in symbols if source_name(settings, s) == BybitClient.name)


def candle_gaps(
    settings: Settings, interval: Interval, symbols: Sequence[str], *, wait_s: float = 60.0
) -> dict[str, Sequence[Gap]]:
    """Return each symbol's open gaps at the source that its candles come from."""
    names = {symbol: source_name(settings, symbol) for symbol in symbols}
    recorded = {
        name: Ledger(settings.warehouse, name, interval, wait_s).open_gaps()
        for name in dict.fromkeys(names.values())
    }
    return {symbol: recorded[name].get(symbol, ()) for symbol, name in names.items()}


def mark_gaps(
    settings: Settings, interval: Interval, *, wait_s: float = 60.0
) -> Mapping[str, Sequence[Gap]]:
    """Return the open gaps of the mark price by symbol."""
    return Ledger(settings.warehouse, MARK_PRICES, interval, wait_s).open_gaps()
