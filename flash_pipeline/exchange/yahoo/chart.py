"""`/v8/finance/chart/{ticker}`: the answer, shaped as Yahoo's."""

import json
from collections.abc import Mapping
from typing import Any

from flash_pipeline.exchange.answer import JSON, Answer
from flash_pipeline.exchange.simulation import SimulatedMarket
from flash_pipeline.exchange.source import Market
from flash_pipeline.exchange.yahoo.bars import Bars, chart_bars, last_trade
from flash_pipeline.exchange.yahoo.query import (
    VALID_RANGES,
    ChartQuery,
    ChartRefusedError,
    read_query,
)
from flash_pipeline.exchange.yahoo.sessions import (
    newest_session,
    offset_s,
    zone_name,
)
from flash_pipeline.exchange.yahoo.tickers import (
    STOCK_LISTINGS,
    Ticker,
    coin_ticker,
    stock_tickers,
)

Object = dict[str, Any]


class YahooChart:
    """Charts of a market's coins against the dollar, and of simulated stocks.

    Stocks are there beside a simulated market only, from its seed: in a replay no number is
    made up.

    Parameters
    ----------
    market : Market
        Where the coins' numbers come from.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._stocks: Mapping[str, Ticker] = {}
        self._stock_market: Market = market
        if isinstance(market, SimulatedMarket):
            self._stocks = stock_tickers()
            self._stock_market = SimulatedMarket(market.seed, STOCK_LISTINGS)

    def answer(self, name: str, parameters: Mapping[str, str], now: int) -> Answer:
        """Return the chart of a ticker at an instant (ms since the epoch), or a refusal.

        Errors have Yahoo's form: HTTP 404 for a ticker that is not known, 400 and 422 for
        parameters.
        """
        try:
            chart: Object = {"result": [self._chart(name, parameters, now)], "error": None}
            status = 200
        except ChartRefusedError as refusal:
            error = {"code": refusal.code, "description": refusal.description}
            chart, status = {"result": None, "error": error}, refusal.status
        text = json.dumps({"chart": chart}, separators=(",", ":"))
        return Answer.text(status, text, f"{JSON};charset=utf-8")

    def _chart(self, name: str, parameters: Mapping[str, str], now: int) -> Object:
        ticker = self._stocks.get(name) or coin_ticker(self._market, name)
        if ticker is None:
            raise ChartRefusedError(404, "Not Found", "No data found, symbol may be delisted")
        market = self._stock_market if name in self._stocks else self._market
        query = read_query(parameters, now)
        launch = market.instruments[ticker.symbol].launch_ms
        if query.end <= launch or query.first > now:
            first, end = query.first // 1000, query.end // 1000
            missing = f"Data doesn't exist for startDate = {first}, endDate = {end}"
            raise ChartRefusedError(400, "Bad Request", missing)
        bars = chart_bars(market, ticker, query, now)
        price = market.last_price(ticker.symbol, last_trade(ticker, now))
        meta = _meta(ticker, query, launch, price, now)
        return {"meta": meta, **_columns(bars, daily=query.interval == "1d")}


def _columns(bars: Bars, *, daily: bool) -> Object:
    """Return `timestamp` and `indicators`; where there are no bars, Yahoo leaves the first out."""
    candles = bars.candles
    if not len(candles):
        return {"indicators": {"quote": [{}], **({"adjclose": [{}]} if daily else {})}}
    lost = bars.null.tolist()

    def values(column: list[Any]) -> list[Any]:
        return [None if gone else value for value, gone in zip(column, lost, strict=True)]

    quote = {
        "open": values(candles.open.tolist()),
        "high": values(candles.high.tolist()),
        "low": values(candles.low.tolist()),
        "close": values(candles.close.tolist()),
        "volume": values(candles.volume.astype(int).tolist()),
    }
    adjusted = {"adjclose": [{"adjclose": values(bars.adjusted.tolist())}]} if daily else {}
    timestamps = (candles.start_time // 1000).tolist()
    return {"timestamp": timestamps, "indicators": {"quote": [quote], **adjusted}}


def _meta(ticker: Ticker, query: ChartQuery, launch: int, price: float | None, now: int) -> Object:
    hours = ticker.hours
    return {
        "currency": "USD",
        "symbol": ticker.name,
        "exchangeName": ticker.venue[0],
        "fullExchangeName": ticker.venue[1],
        "instrumentType": ticker.kind,
        "firstTradeDate": launch // 1000,
        "regularMarketTime": last_trade(ticker, now) // 1000,
        "hasPrePostMarketData": ticker.kind in ("ETF", "EQUITY"),
        "gmtoffset": offset_s(hours, now),
        "timezone": zone_name(hours, now),
        "exchangeTimezoneName": str(hours.zone),
        "regularMarketPrice": price,
        "longName": ticker.long_name,
        "shortName": ticker.long_name,
        "priceHint": 2,
        "currentTradingPeriod": _periods(ticker, now),
        "dataGranularity": query.interval,
        "range": query.range,
        "validRanges": VALID_RANGES,
    }


def _periods(ticker: Ticker, now: int) -> Object:
    """Return the newest session's regular hours; those before and after it are not simulated."""
    session = newest_session(ticker.hours, now)
    offset, zone = offset_s(ticker.hours, now), zone_name(ticker.hours, now)

    def period(start: int, end: int) -> Object:
        return {
            "timezone": zone,
            "start": start // 1000,
            "end": end // 1000,
            "gmtoffset": offset,
        }

    return {
        "pre": period(session.start, session.start),
        "regular": period(session.start, session.end),
        "post": period(session.end, session.end),
    }
