"""The shape of a chart answer, as far as it is read: JSON's own types are kept apart.

`adjclose`, prices less later dividends, is not among it: these are prices at which nobody traded,
and they change with every dividend. The prices of `quote` are adjusted for splits only.
"""

from typing import Annotated

from pydantic import Field

from flash_pipeline.transport import Fields

Seconds = Annotated[int, Field(ge=-(10**10), le=10**11)]
"""A time, seconds since the epoch: from 1653 to 5138, which dates can hold."""

Number = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A price or a volume; sums of more would not be finite."""

Numbers = list[Number | None]
"""One column; null where there was no trade, or where Yahoo lost it."""


class Period(Fields):
    """A span of trading."""

    start: Seconds
    end: Seconds
    gmtoffset: Annotated[int, Field(ge=-86_400, le=86_400)]


class TradingPeriods(Fields):
    """The session of today, or the last or next one."""

    regular: Period | None = None


class Meta(Fields):
    """What the chart is of."""

    symbol: str
    zone: str = Field(alias="exchangeTimezoneName")
    granularity: str = Field(alias="dataGranularity")
    kind: str = Field(alias="instrumentType", default="")
    last_trade: Seconds | None = Field(alias="regularMarketTime", default=None)
    periods: TradingPeriods | None = Field(alias="currentTradingPeriod", default=None)


class Quote(Fields):
    """The columns; none of them where there are no rows."""

    open: Numbers = Field(default=[])
    high: Numbers = Field(default=[])
    low: Numbers = Field(default=[])
    close: Numbers = Field(default=[])
    volume: Numbers = Field(default=[])


class Indicators(Fields):
    """What is charted."""

    quote: Annotated[list[Quote], Field(min_length=1, max_length=1)]


class Result(Fields):
    """The chart of one ticker."""

    meta: Meta
    timestamp: list[Seconds] = Field(default=[])
    indicators: Indicators


class Failure(Fields):
    """Why there is no chart."""

    code: str
    description: str | None = None


class Outcome(Fields):
    """A chart or a failure."""

    result: list[Result] | None = None
    error: Failure | None = None


class FailureOnly(Fields):
    """The part of an outcome that is read first: a failing answer can lack the rest."""

    error: Failure | None = None


class Body(Fields):
    """The answer."""

    chart: Outcome


class FailureBody(Fields):
    """The answer where it may be a failure; some failures come under another name."""

    chart: FailureOnly | None = None
    finance: FailureOnly | None = None
