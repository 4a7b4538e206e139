"""The newest state of an instrument, as `/v5/market/tickers` writes it."""

import numpy as np

from flash_pipeline.exchange.book import make_book
from flash_pipeline.exchange.candles import Candles
from flash_pipeline.exchange.decimals import decimal_text
from flash_pipeline.exchange.instruments import Instrument, Step
from flash_pipeline.exchange.mark import mark_price
from flash_pipeline.exchange.source import CandleRequest, Market, invents
from flash_pipeline.market import Interval
from flash_pipeline.market.interval import MINUTE_MS

_DAY_CANDLES = 25  # the last 24 hours touch so many hourly candles
_OPEN_INTEREST_DAYS = 0.6  # of traded volume
_MADE_UP = (
    *("indexPrice", "markPrice", "openInterest", "openInterestValue"),
    *("bid1Price", "bid1Size", "ask1Price", "ask1Size"),
)
_INDEX_PART = 0.5  # where the index lies between the last and the mark price


def ticker_json(market: Market, instrument: Instrument, now_ms: int) -> dict[str, str] | None:
    """Return an instrument's ticker, every value a string; None before its first trade.

    What the contract does not have, such as a delivery, is `""`, and so is in a replay what was not
    recorded: mark and index price, open interest, best bid and ask, funding without a file. The
    last 24 hours are taken from hourly candles, so they reach back to the start of one; the
    funding rate is that of the newest settlement.

    Raises
    ------
    InvalidInterval
        If the market has no candles as fine as an hour.
    """
    request = CandleRequest(instrument.symbol, Interval.HOUR_1, 0, now_ms, _DAY_CANDLES)
    day = market.candles(request, now_ms)
    last = market.last_price(instrument.symbol, now_ms)
    if last is None or not len(day):
        return None
    values = {
        "symbol": instrument.symbol,
        "lastPrice": decimal_text(last),
        **_made_up_json(day, last, instrument, now_ms),
        **_day_json(day, last),
        **_funding_json(market, instrument, now_ms),
        **_delivery_json(),
    }
    return values if invents(market) else {**values, **dict.fromkeys(_MADE_UP, "")}


def _made_up_json(day: Candles, last: float, instrument: Instrument, now_ms: int) -> dict[str, str]:
    """Return the fields that only a simulation has."""
    mark = mark_price(last, instrument, now_ms)
    index = last + (mark - last) * _INDEX_PART
    return {
        "indexPrice": _rounded(index, Step.of(instrument.tick_size).decimals),
        "markPrice": decimal_text(mark),
        **_interest_json(day, mark, instrument),
        **_touch_json(instrument, last, now_ms),
    }


def _day_json(day: Candles, last: float) -> dict[str, str]:
    before, hour_before = float(day.open[0]), float(day.open[-2:][0])
    return {
        "prevPrice24h": decimal_text(before),
        "price24hPcnt": _rounded(last / before - 1, 6),
        "highPrice24h": decimal_text(float(day.high.max())),
        "lowPrice24h": decimal_text(float(day.low.min())),
        "prevPrice1h": decimal_text(hour_before),
        "volume24h": _rounded(float(day.volume.sum()), 8),
        "turnover24h": _rounded(float(day.turnover.sum()), 4),
    }


def _interest_json(day: Candles, mark: float, instrument: Instrument) -> dict[str, str]:
    step = float(instrument.quantity_step)
    decimals = Step.of(instrument.quantity_step).decimals
    held = np.rint(float(day.volume.sum()) * _OPEN_INTEREST_DAYS / step) * step
    return {
        "openInterest": _rounded(float(held), decimals),
        "openInterestValue": _rounded(float(held) * mark, 2),
    }


def _funding_json(market: Market, instrument: Instrument, now_ms: int) -> dict[str, str]:
    step = instrument.funding_minutes * MINUTE_MS
    settled = market.funding(instrument.symbol, 0, now_ms, 1, now_ms)
    known = bool(settled) or invents(market)
    return {
        "fundingRate": decimal_text(settled[-1].rate) if settled else "",
        "nextFundingTime": str((now_ms // step + 1) * step) if known else "",
    }


def _delivery_json() -> dict[str, str]:
    """Return the fields of contracts that expire or are auctioned, which these are not."""
    names = ("predictedDeliveryPrice", "basisRate", "basis", "deliveryFeeRate")
    auction = ("preOpenPrice", "preQty", "curPreListingPhase")
    return {**dict.fromkeys((*names, *auction), ""), "deliveryTime": "0"}


def _touch_json(instrument: Instrument, last: float, now_ms: int) -> dict[str, str]:
    book = make_book(instrument, last, now_ms, 1)
    bid = book.bids[0] if book.bids else ["", ""]
    ask = book.asks[0]
    return {"bid1Price": bid[0], "bid1Size": bid[1], "ask1Price": ask[0], "ask1Size": ask[1]}


def _rounded(value: float, decimals: int) -> str:
    return decimal_text(round(value, decimals))
