"""Funding settlements, page by page from the newest to the oldest."""

import pyarrow as pa
from pydantic import Field

from flash_pipeline.bybit.answers import Envelope
from flash_pipeline.bybit.api import CATEGORY, Api, require_subject
from flash_pipeline.bybit.fields import Milliseconds, Number
from flash_pipeline.errors import InconsistentAnswer
from flash_pipeline.market import FUNDING_SCHEMA, TimeRange, iso_utc, parse_symbol
from flash_pipeline.transport import Fields, Query

PATH = "/v5/market/funding/history"
"""Route."""

PAGE_ROWS = 200
"""Rows of one page at most."""


class FundingRow(Fields):
    """One settlement."""

    symbol: str
    rate: Number = Field(alias="fundingRate")
    time: Milliseconds = Field(alias="fundingRateTimestamp")


class FundingResult(Fields):
    """The result of a call for funding."""

    category: str = ""
    rows: list[FundingRow] = Field(alias="list", default=[])


def fetch_funding(api: Api, symbol: str, window: TimeRange) -> pa.Table:
    """Return the settlements within a window, as `FUNDING_SCHEMA`.

    `endTime` alone is given, since `startTime` alone is an error; the next page ends just before
    the oldest row of the page before. An empty page means that the history starts there; it is
    asked for twice, since no later page would show that it was empty by mistake.

    Raises
    ------
    InconsistentAnswer
        If a row is of another symbol, not settled yet, or later than asked, so that the pages
        would not advance; or if two rates of one time differ.
    """
    parse_symbol(symbol)
    rates: dict[int, float] = {}
    end, empty = window.end - 1, 0
    while window.start <= end and empty < 2:
        page = _fetch_page(api, symbol, end)
        empty = 0 if page else empty + 1
        rates |= page
        end = min(page, default=end + 1) - 1
    times = sorted(time for time in rates if time in window)
    return pa.Table.from_pydict(
        {"funding_time": times, "rate": [rates[time] for time in times]}, schema=FUNDING_SCHEMA
    )


def _fetch_page(api: Api, symbol: str, end: int) -> dict[int, float]:
    """Return the rates by the time of their settlement, none of them after `end`."""

    def read(envelope: Envelope[FundingResult]) -> dict[int, float]:
        rates: dict[int, float] = {}
        for row in envelope.result.rows:
            require_subject(symbol, row.symbol, envelope.result.category)
            if row.time > min(end, envelope.time):
                raise InconsistentAnswer(
                    f"{symbol}: funding of {iso_utc(row.time)} answered, asked for up to "
                    f"{iso_utc(end)} at {iso_utc(envelope.time)}",
                    symbol=symbol,
                )
            if rates.setdefault(row.time, row.rate) != row.rate:
                raise InconsistentAnswer(f"{symbol}: two rates of {row.time} differ", symbol=symbol)
        return rates

    query: Query = {"category": CATEGORY, "symbol": symbol, "endTime": end, "limit": PAGE_ROWS}
    return api.get(PATH, query, Envelope[FundingResult], read, symbol=symbol)
