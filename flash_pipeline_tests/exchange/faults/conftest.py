from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from flash_pipeline.exchange import Clock, Faults, FaultSpec, SimulatedMarket, embedded_exchange
from flash_pipeline.market import parse_instant

NOW = parse_instant("2024-06-30T23:30:00Z")
HOUR = 3_600_000
FORMING = NOW // HOUR * HOUR


@pytest.fixture(scope="session")
def quiet_market() -> SimulatedMarket:
    return SimulatedMarket(seed=7)


@pytest.fixture
def faulty(quiet_market) -> Callable[..., Any]:
    """Serve an exchange with faults, and yield the faults and what asks it."""

    @contextmanager
    def serve(kinds: str, *, rate: float = 1.0, burst: int = 1, **spec: Any) -> Iterator[Any]:
        names = tuple(kinds.split("+"))
        faults = Faults(FaultSpec(rate=rate, burst=burst, kinds=names, **spec))
        clock = Clock(NOW, speed=0)
        with (
            embedded_exchange(market=quiet_market, clock=clock, faults=faults) as url,
            requests.Session() as session,
        ):

            def ask(path: str = "kline", timeout: float = 5.0, **query: Any) -> requests.Response:
                if path == "kline":
                    window = {"start": FORMING - 9 * HOUR, "end": FORMING - HOUR, "limit": 9}
                    query = {"symbol": "BTCUSDT", "interval": "60", **window, **query}
                return session.get(f"{url}/v5/market/{path}", params=query, timeout=timeout)

            ask.url = url  # type: ignore[attr-defined]
            yield faults, ask

    return serve
