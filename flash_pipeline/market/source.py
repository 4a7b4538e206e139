"""What a source of candles is, whoever runs it: an exchange, a finance site, a folder of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from flash_pipeline.market.interval import Interval
from flash_pipeline.market.time import TimeRange


@dataclass(frozen=True)
class CandleAnswer:
    """What a source has of one window, and when it said so."""

    candles: pa.Table
    """Rows of `CANDLE_SCHEMA` (or of the schema that the call names) that open within the window:
    sorted by start, unique, on the interval's grid, closed by `as_of`."""
    as_of: int
    """The source's clock when it answered, ms since the epoch, UTC. No candle that was not closed
    by then is among the rows, whatever else is known of the time."""


class MarketSource(Protocol):
    """Where candles come from.

    Every method may be called from several threads at once.

    Raises
    ------
    ExchangeError
        From every method, when the source does not give what was asked. Transient errors have
        been tried again by then.
    InvalidInput
        For an interval or a symbol that the source cannot have.
    """

    @property
    def name(self) -> str:
        """Name in tables and metadata, such as `bybit`."""
        ...

    @property
    def continuous(self) -> bool:
        """Whether it trades around the clock: then a missing candle is a gap.

        Otherwise a missing candle says that the market was closed.
        """
        ...

    @property
    def most_candles(self) -> int:
        """Candle starts in one window at most."""
        ...

    def now(self) -> int:
        """Return the source's own clock, ms since the epoch, UTC."""
        ...

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes its candles."""
        ...

    def candles(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return the closed candles that open within a window.

        Parameters
        ----------
        symbol : str
            As `parse_symbol` admits it.
        interval : Interval
            Length of a candle.
        window : TimeRange
            1 to `most_candles` candle starts. It may reach past the clock: what has not closed
            is not answered.

        Returns
        -------
        CandleAnswer
            No rows where the source has none, as before the listing. The forming candle is left
            out by the earlier of the answer's own time and any clock read before.
        """
        ...

    def delisted(self, symbols: Sequence[str]) -> frozenset[str]:
        """Return those of the symbols that trade no more; others are traded or about to be."""
        ...


class FundingSource(Protocol):
    """Where funding comes from: an exchange of perpetuals. Errors as of `MarketSource`."""

    @property
    def name(self) -> str:
        """Name in tables and metadata, such as `bybit`."""
        ...

    def now(self) -> int:
        """Return the source's own clock, ms since the epoch, UTC."""
        ...

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes its funding."""
        ...

    def funding(self, symbol: str, window: TimeRange) -> pa.Table:
        """Return the settlements within a window of any width, by as many requests as it takes.

        Returns
        -------
        pa.Table
            Rows of `FUNDING_SCHEMA`: sorted by time, unique, settled ones only. No rows where
            the source has none.
        """
        ...


class MarkPriceSource(MarketSource, Protocol):
    """A source that has candles of the mark price as well."""

    def mark_klines(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        """Return closed candles of the mark price as `candles` does those of the trades.

        Rows are those of `MARK_CANDLE_SCHEMA`.
        """
        ...
