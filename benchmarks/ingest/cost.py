"""What the ingester asks of the exchange: requests of a backfill and of an hourly tick."""

from math import ceil
from pathlib import Path

from common import HOUR_MS, NOW, SYMBOLS, Home, Result, print_table, recording, tally

from flash_pipeline.bybit import BybitClient
from flash_pipeline.exchange import Clock, Faults, FaultSpec, ReplayedMarket, embedded_exchange

_CANDLES = "/v5/market/kline"


def measure(root: Path) -> Result:
    """Count the requests of both, as the exchange sees them, and print their table."""
    home, market = Home(root / "home"), ReplayedMarket(recording())
    backfill = _requests(home, market, NOW - HOUR_MS)
    closed_end = (NOW - HOUR_MS) // HOUR_MS * HOUR_MS
    stored = tally(home, recording(), closed_end).stored
    tick = _requests(home, market, NOW)
    result: Result = {
        "candles of the backfill": stored,
        "ceil(candles / 1000) over the symbols": sum(
            ceil(stored / len(SYMBOLS) / 1000) for _ in SYMBOLS
        ),
        "kline requests of the backfill": backfill.get(_CANDLES, 0),
        "other requests of the backfill": sum(backfill.values()) - backfill.get(_CANDLES, 0),
        "kline requests of an hourly tick of 5 symbols": tick.get(_CANDLES, 0),
        "other requests of an hourly tick": sum(tick.values()) - tick.get(_CANDLES, 0),
    }
    print_table("Requests", result.items())
    return result


def _requests(home: Home, market: ReplayedMarket, now: int) -> dict[str, int]:
    counter = Faults(FaultSpec(rate=0.0))
    with (
        embedded_exchange(market=market, clock=Clock(now, speed=0), faults=counter) as url,
        BybitClient(url) as client,
    ):
        home.refresh(client)
    return dict(counter.requests)
