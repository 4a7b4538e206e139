"""An instrument as `/v5/market/instruments-info` writes it."""

from typing import Any

from flash_pipeline.exchange.instruments import QUOTE_COIN, Instrument, Step

_MAX_PRICE_TICKS = 19_999_998
_MAX_ORDER_STEPS = 1_190_000


def instrument_json(instrument: Instrument, now_ms: int) -> dict[str, Any]:
    """Return the fields of a linear perpetual at an instant, in the exchange's order.

    Numbers are strings in plain notation; the limits on leverage and orders are the same for all.
    """
    status = instrument.status(now_ms)
    tick, step = instrument.tick_size, instrument.quantity_step
    largest = f"{step * _MAX_ORDER_STEPS:f}"
    return {
        "symbol": instrument.symbol,
        "contractType": "LinearPerpetual",
        "status": status,
        "baseCoin": instrument.base_coin,
        "quoteCoin": QUOTE_COIN,
        "launchTime": str(instrument.launch_ms),
        "deliveryTime": str(instrument.delist_ms) if status == "Closed" else "0",
        "deliveryFeeRate": "",
        "priceScale": str(Step.of(tick).decimals),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {
            "minPrice": f"{tick:f}",
            "maxPrice": f"{tick * _MAX_PRICE_TICKS:f}",
            "tickSize": f"{tick:f}",
        },
        "lotSizeFilter": {
            "maxOrderQty": largest,
            "minOrderQty": f"{step:f}",
            "qtyStep": f"{step:f}",
            "postOnlyMaxOrderQty": largest,
            "maxMktOrderQty": largest,
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": instrument.funding_minutes,
        "settleCoin": QUOTE_COIN,
        "copyTrading": "both",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
        "isPreListing": status == "PreLaunch",
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
    }
