"""The mark price's candles, as a source like any other."""

from collections.abc import Sequence
from dataclasses import dataclass

from flash_pipeline.market import CandleAnswer, Interval, MarkPriceSource, TimeRange


def mark_price_name(source: str) -> str:
    """Return the name of a source's mark price in tables and metadata."""
    return f"{source} mark price"


@dataclass(frozen=True)
class MarkPrices:
    """A source of trades seen by its mark price.

    The answers hold rows of `MARK_CANDLE_SCHEMA`, so `refresh_klines` is to store them in a
    `KlineStore` of that schema.
    """

    source: MarkPriceSource
    """Where the mark price comes from."""

    @property
    def name(self) -> str:
        """Name in tables and metadata: gaps and revisions are apart from those of the trades."""
        return mark_price_name(self.source.name)

    @property
    def continuous(self) -> bool:
        """Whether it is made around the clock."""
        return self.source.continuous

    @property
    def most_candles(self) -> int:
        """Candle starts in one window at most."""
        return self.source.most_candles

    def now(self) -> int:
        """Return the source's own clock, ms since the epoch, UTC."""
        return self.source.now()

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes the candles."""
        return self.source.is_synthetic()

    def candles(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return the closed candles of the mark price that open within a window."""
        return self.source.mark_klines(symbol, interval, window)

    def delisted(self, symbols: Sequence[str]) -> frozenset[str]:
        """Return those of the symbols that trade no more."""
        return self.source.delisted(symbols)
