from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
import requests

from flash_pipeline.exchange import Clock, SimulatedMarket, embedded_exchange
from flash_pipeline.market import parse_instant

NOW = parse_instant("2026-03-10T12:34:56Z")
Get = Callable[..., requests.Response]
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def now() -> int:
    return NOW


@pytest.fixture(scope="session")
def market() -> SimulatedMarket:
    return SimulatedMarket(seed=7)


@pytest.fixture(scope="session")
def get(market: SimulatedMarket) -> Iterator[Get]:
    """Get a path of an exchange whose clock stands still at NOW."""
    with (
        embedded_exchange(market=market, clock=Clock(NOW, speed=0)) as url,
        requests.Session() as session,
    ):
        yield lambda path, **parameters: session.get(url + path, params=parameters, timeout=10)


@pytest.fixture(scope="session")
def ask(get: Get) -> Ask:
    """Get the result of a successful answer of `/v5/market/...`."""

    def ask(path: str, **parameters: Any) -> Any:
        body = get(f"/v5/market/{path}", **parameters).json()
        assert body["retCode"] == 0, body
        return body["result"]

    return ask


@pytest.fixture(scope="session")
def refusal(get: Get) -> Callable[..., str]:
    """Get the message of an answer that refuses a parameter."""

    def refusal(path: str, **parameters: Any) -> str:
        response = get(f"/v5/market/{path}", **parameters)
        body = response.json()
        assert (response.status_code, body["retCode"], body["result"]) == (200, 10001, {}), body
        return str(body["retMsg"])

    return refusal


@pytest.fixture(scope="session")
def recorded() -> pa.Table:
    """Five hourly candles with values that no rounding survives, and one turnover missing."""
    hour = 3_600_000
    start = parse_instant("2024-06-01")
    return pa.table(
        {
            "start_time": [start + hour * n for n in range(5)],
            "open": [67000.1, 67010.2, 67005.0, 67020.3, 0.1 + 0.2],
            "high": [67020.5, 67030.0, 67025.5, 67040.4, 0.5],
            "low": [66990.0, 67000.3, 66999.9, 67010.1, 0.1],
            "close": [67010.2, 67005.0, 67020.3, 67030.7, 0.4],
            "volume": [341.89799999, 120.5, 1e-05, 99.001, 12.0],
            "turnover": [22909750.123456789, None, 0.67010123, 6635000.5, 3.6],
        }
    )
