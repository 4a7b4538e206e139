"""Candles of the trades and of the mark price: one window, one answer, only closed ones."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import CATEGORY, Api, require_subject
from flash_pipeline.bybit.rows import parse_candles, parse_cells
from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    MARK_CANDLE_SCHEMA,
    CandleAnswer,
    Interval,
    TimeRange,
    parse_symbol,
)
from flash_pipeline.transport import Fields

MAX_CANDLES = 1000
"""Candles in one answer at most; of a wider range the exchange returns the newest."""

TradeRow = tuple[str, str, str, str, str, str, str]
"""Start, open, high, low, close, volume, turnover."""

MarkRow = tuple[str, str, str, str, str]
"""Start, open, high, low, close."""

Row = TypeVar("Row", TradeRow, MarkRow)


class KlineResult(Fields, Generic[Row]):
    """The result of a kline call. Before a listing it can lack the symbol, and the list."""

    symbol: str = ""
    category: str = ""
    rows: list[Row] = Field(alias="list", default=[])


@dataclass(frozen=True)
class KlineCall(Generic[Row]):
    """One of the kline calls."""

    path: str
    """Route."""
    schema: pa.Schema
    """Columns of its rows."""
    shape: type[Envelope[KlineResult[Row]]]
    """Its envelope."""


TRADES = KlineCall("/v5/market/kline", CANDLE_SCHEMA, Envelope[KlineResult[TradeRow]])
"""Candles of the trades."""

MARK = KlineCall("/v5/market/mark-price-kline", MARK_CANDLE_SCHEMA, Envelope[KlineResult[MarkRow]])
"""Candles of the mark price, without volume and turnover."""


def fetch_candles(
    api: Api, call: KlineCall[Row], symbol: str, interval: Interval, window: TimeRange
) -> CandleAnswer:
    """Return the closed candles that open within a window.

    Parameters
    ----------
    window : TimeRange
        1 to `MAX_CANDLES` candle starts. Before an unaligned start the exchange may answer one
        candle more, the one that contains it: that is left out.

    Raises
    ------
    ValueError
        If the window is wider than one answer, or holds no start.
    InconsistentAnswer
        If the answer is about another symbol, or a row lies off the grid or outside the window.
    """
    starts = window.candle_starts(interval)
    if not 0 < len(starts) <= MAX_CANDLES:
        raise ValueError(f"{len(starts)} candles asked at once: expected 1 to {MAX_CANDLES}")
    query = {
        "category": CATEGORY,
        "symbol": parse_symbol(symbol),
        "interval": interval.value,
        "start": starts[0],
        "end": starts[-1],  # inclusive
        "limit": len(starts),
    }

    def read(envelope: Envelope[KlineResult[Row]], cells: pa.Array | None) -> CandleAnswer:
        result = envelope.result
        require_subject(symbol, result.symbol, result.category)
        if cells is None:
            candles = parse_candles(result.rows, symbol, call.schema)
        else:
            candles = parse_cells(cells, symbol, call.schema)
        candles = _within(candles, window, interval, symbol)
        # The answer's own time is told as it is: one far ahead of the clock shows that this was
        # behind. Which candles are closed is decided by the earlier of both.
        return CandleAnswer(_closed(candles, interval, api.as_of(envelope)), envelope.time)

    columns = len(call.schema)
    return api.get_rows(call.path, query, call.shape, columns, read, symbol=symbol)


def _within(candles: pa.Table, window: TimeRange, interval: Interval, symbol: str) -> pa.Table:
    starts = candles["start_time"].to_numpy()
    containing_start = interval.floor(window.start)
    if starts.size and starts[0] == containing_start < window.start:
        candles, starts = candles.slice(1), starts[1:]
    inside = (starts >= window.start) & (starts < window.end)
    wrong = starts[~(inside & (starts % interval.milliseconds == 0))]
    if wrong.size:
        raise InconsistentAnswer(
            f"{symbol}: candle {wrong[0]} is off the {interval.minutes}-minute grid "
            f"or outside the window {window}",
            symbol=symbol,
        )
    return candles


def _closed(candles: pa.Table, interval: Interval, as_of: int) -> pa.Table:
    """Leave out what is still forming: it has no flag, and is always answered."""
    starts = candles["start_time"].to_numpy()
    closed = np.searchsorted(starts, as_of - interval.milliseconds, side="right")
    return candles.slice(0, int(closed))
