"""Charts as Yahoo answers them; numbers are made up, the shape is not."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from flash_pipeline.market import parse_instant
from flash_pipeline.transport import Answer, RequestBudget
from flash_pipeline.yahoo import YahooClient

URL = "https://yahoo.test"
TICKERS = {"AAPL": "AAPL", "SPX": "^GSPC", "BTCUSD": "BTC-USD"}
NEW_YORK = ("America/New_York", "13:30", "20:00", -14400)  # summer: open and close in UTC


def seconds(text: str) -> int:
    return parse_instant(text) // 1000


def _bar(price: float, volume: float | None = 10.0) -> tuple[Any, ...]:
    return (price, price + 2, price - 2, price + 1, volume)


def _chart(
    opens: Sequence[str | int],
    bars: Sequence[tuple[Any, ...]] | None = None,
    *,
    ticker: str = "AAPL",
    granularity: str = "1h",
    zone: str = "America/New_York",
    session: tuple[str, str, int] | None = ("2024-06-03T13:30", "2024-06-03T20:00", -14400),
    last_trade: str | None = None,
    **meta: Any,
) -> dict[str, Any]:
    bars = [_bar(100.0 + n) for n in range(len(opens))] if bars is None else bars
    columns = list(zip(*bars, strict=True)) if bars else [[]] * 5
    names = ("open", "high", "low", "close", "volume")
    regular = None
    if session is not None:
        start, end, offset = session
        regular = {"start": seconds(start), "end": seconds(end), "gmtoffset": offset}
    whole = {
        "symbol": ticker,
        "exchangeTimezoneName": zone,
        "dataGranularity": granularity,
        "regularMarketTime": None if last_trade is None else seconds(last_trade),
        "currentTradingPeriod": {"pre": {}, "regular": regular, "post": {}},
        "currency": "USD",
        "regularMarketPrice": 101.5,
        **meta,
    }
    quote = {name: list(column) for name, column in zip(names, columns, strict=True)}
    result = {
        "meta": whole,
        "timestamp": [seconds(each) if isinstance(each, str) else each for each in opens],
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": [1.0] * len(opens)}]},
    }
    return {"chart": {"result": [result], "error": None}}


def _failure(code: str, why: str, *, under: str = "chart") -> dict[str, Any]:
    return {under: {"result": None, "error": {"code": code, "description": why}}}


@pytest.fixture(scope="session")
def bar() -> Callable[..., tuple[Any, ...]]:
    """Make the open, high, low, close and volume of a bar around a price."""
    return _bar


@pytest.fixture(scope="session")
def chart() -> Callable[..., dict[str, Any]]:
    """Make the body of a chart of bars that open at some times."""
    return _chart


@pytest.fixture(scope="session")
def failure() -> Callable[..., dict[str, Any]]:
    """Make the body of an answer that says why there is no chart."""
    return _failure


@pytest.fixture(scope="session")
def answer() -> Callable[..., Answer]:
    """Make an answer of a JSON body, or of raw content."""

    def answer(
        body: Any = None, *, status: int = 200, content: bytes | None = None, **headers: str
    ) -> Answer:
        content = json.dumps(body).encode() if content is None else content
        whole = {"content-type": "application/json;charset=utf-8", **headers}
        return Answer(URL, status, whole, content)

    return answer


class Script(BaseAdapter):
    """Plays prepared answers, one per request; the last one for ever."""

    def __init__(self, answers: Sequence[tuple[int, Any]], clock: str) -> None:
        super().__init__()
        self.answers, self.clock = list(answers), clock
        self.headers = {"Content-Type": "application/json"}
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request, **_options):
        self.asked.append(request)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        response = requests.Response()
        response.status_code, response.url, response.request = status, request.url, request
        response.raw = BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        date = format_datetime(datetime.fromtimestamp(seconds(self.clock), UTC), usegmt=True)
        response.headers.update({"Date": date, **self.headers})
        return response

    def close(self):
        pass


@pytest.fixture
def scripted() -> Callable[..., tuple[YahooClient, Script]]:
    """Make a client of a Yahoo that follows a script of bodies, or of statuses and bodies."""

    def scripted(*answers: Any, clock: str = "2024-06-04T12:00") -> tuple[YahooClient, Script]:
        script = Script([a if isinstance(a, tuple) else (200, a) for a in answers], clock)
        session = requests.Session()
        session.mount(URL, script)
        budget = RequestBudget(None)
        client = YahooClient([URL], TICKERS, session=session, sleep=lambda _: None, budget=budget)
        return client, script

    return scripted
