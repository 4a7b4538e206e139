"""What recorded candles tell about the instrument that they belong to."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from flash_pipeline.exchange.candles import Candles, Column
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.source import FundingRate

_SAMPLE = 1000  # newest candles: steps change over the years
_QUANTITY_DECIMALS = 3  # float noise shows as more: 341.89799999
_USUAL_FUNDING_MINUTES = 480


def infer_instrument(symbol: str, candles: Candles, funding: Sequence[FundingRate]) -> Instrument:
    """Return the instrument that would have traded these candles.

    The tick is the largest of 1, 2 and 5 times a power of ten that divides the newest prices; the
    quantity step is a power of ten down to 0.001; the funding interval is the time between the
    newest two settlements, 8 hours where there are none. The launch is the first candle.

    Parameters
    ----------
    symbol : str
    candles : Candles
        In coins, oldest first, at least one.
    funding : sequence of FundingRate
        Oldest first; may be empty.
    """
    recent = candles[-_SAMPLE:]
    prices = np.concatenate([recent.open, recent.high, recent.low, recent.close])
    quantity = min(_decimals(recent.volume), _QUANTITY_DECIMALS)
    return Instrument(
        symbol=symbol,
        launch_ms=int(candles.start_time[0]),
        tick_size=_tick_size(prices),
        quantity_step=Decimal(1).scaleb(-quantity),
        funding_minutes=_funding_minutes(funding),
    )


def _decimals(values: Column) -> int:
    """Return the most digits after the point of any value's shortest text."""
    exponents = (Decimal(repr(x)).normalize().as_tuple().exponent for x in values.tolist())
    return max(0, -min(int(exponent) for exponent in exponents))


def _tick_size(prices: Column) -> Decimal:
    decimals = _decimals(prices)
    counts = np.rint(prices * 10.0**decimals)
    factor = next(each for each in (5, 2, 1) if not np.any(counts % each))
    return Decimal(factor).scaleb(-decimals)


def _funding_minutes(funding: Sequence[FundingRate]) -> int:
    if len(funding) < 2:
        return _USUAL_FUNDING_MINUTES
    # Recorded settlements may be some milliseconds late.
    return max(1, round((funding[-1].time_ms - funding[-2].time_ms) / 60_000))
