import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from requests.adapters import BaseAdapter

from flash_pipeline.bybit import BybitClient, KlineRefresh, refresh_klines
from flash_pipeline.exchange import Clock, Market, ReplayedMarket, embedded_exchange
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000
URL = "https://exchange.test"
Answer = Callable[..., requests.Response]


def _answer(
    body: Any = None, *, status: int = 200, content: bytes | None = None, **headers: str
) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.url = URL
    response.raw = BytesIO(json.dumps(body).encode() if content is None else content)
    response.headers.update({name.replace("_", "-"): text for name, text in headers.items()})
    return response


class Script(BaseAdapter):
    """Plays prepared answers, one per request; the last one for ever. Errors are raised."""

    def __init__(self, *answers: Callable[[], requests.Response] | Exception) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def send(self, request, **options):
        self.asked.append({"url": request.url, **options})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        response = answer()
        response.request = request
        response.url = request.url
        return response

    def close(self):
        pass


@pytest.fixture(scope="session")
def answer() -> Answer:
    """Make an answer of a JSON body, or of raw content."""
    return _answer


@pytest.fixture(scope="session")
def envelope() -> Callable[..., dict[str, Any]]:
    """Make the envelope of a successful answer."""

    def envelope(result: Any = None, **fields: Any) -> dict[str, Any]:
        whole = {"retCode": 0, "retMsg": "OK", "result": result or {}, "retExtInfo": {}}
        return {**whole, "time": 1746288000500, **fields}

    return envelope


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that the client of `scripted` waited between tries."""
    return []


@pytest.fixture
def scripted(pauses) -> Iterator[Callable[..., tuple[BybitClient, Script]]]:
    """Make a client whose exchange follows a script; an answer is a body, maker or error."""
    clients = []

    def scripted(*answers: Any) -> tuple[BybitClient, Script]:
        script = Script(
            *(a if callable(a) or isinstance(a, Exception) else _maker(a) for a in answers)
        )
        session = requests.Session()
        session.mount(URL, script)
        client = BybitClient(URL, session=session, sleep=pauses.append)
        clients.append(client)
        return client, script

    yield scripted
    for client in clients:
        client.close()


def _maker(body: Any) -> Callable[[], requests.Response]:
    return lambda: _answer(body)


def _series(
    first: str, hours: int, *, level: float = 100.0, absent: Iterable[int] = ()
) -> pa.Table:
    start = parse_instant(first)
    rows = []
    for n in (n for n in range(hours) if n not in set(absent)):
        time = start + n * HOUR
        close = level + (time // HOUR * 7919 % 997) / 100  # a function of the time alone
        rows.append([time, close + 0.1, close + 1.0, close - 1.0, close, 1.5 + n % 5, None])
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), CANDLE_SCHEMA, strict=True)],
        schema=CANDLE_SCHEMA,
    )


@pytest.fixture(scope="session")
def series() -> Callable[..., pa.Table]:
    """Make hourly candles from a time on, less those of the hours named as absent."""
    return _series


@pytest.fixture
def replay(tmp_path) -> Callable[..., ReplayedMarket]:
    """Make a market of recorded candles, by symbol."""

    def replay(**recordings: pa.Table) -> ReplayedMarket:
        folder = tmp_path / "replay"
        folder.mkdir(exist_ok=True)
        for symbol, table in recordings.items():
            pq.write_table(table, folder / f"{symbol}_60.parquet")
        return ReplayedMarket(folder)

    return replay


@pytest.fixture
def store(tmp_path) -> KlineStore:
    return KlineStore(tmp_path / "klines", Interval.HOUR_1)


class CountingSession(requests.Session):
    """A session that remembers the kline requests."""

    def __init__(self) -> None:
        super().__init__()
        self.klines: list[dict[str, Any]] = []

    def get(self, url, **options):
        if url.endswith("/kline"):
            self.klines.append(options["params"])
        return super().get(url, **options)


class Stage:
    """The market and the time of an exchange that keeps running while tests change them."""

    market: Market
    now = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.market, name)


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    """Serve a stage; one server for all tests, since each takes a while to stop."""
    stage = Stage()
    clock = Clock(0, monotonic_ns=lambda: stage.now * 1_000_000)
    with embedded_exchange(market=stage, clock=clock) as url:
        yield stage, url


@pytest.fixture
def refresh(store, stage) -> Callable[..., tuple[KlineRefresh, list[dict[str, Any]]]]:
    """Refresh the store from a market whose clock stands at a time.

    Gives what the refresh did and the queries of its kline requests.
    """
    setting, url = stage

    def refresh(
        market: Market,
        now: str,
        first: str,
        last: str | None = None,
        *,
        symbols: Sequence[str] = ("BTCUSDT",),
        into: KlineStore = store,
    ) -> tuple[KlineRefresh, list[dict[str, Any]]]:
        setting.market, setting.now = market, parse_instant(now)
        months = Month.parse(first), Month.parse(last or first)
        session = CountingSession()
        with BybitClient(url, session=session, sleep=lambda _: None) as client:
            done = refresh_klines(client, into, symbols, *months)
        return done, session.klines

    return refresh


@pytest.fixture
def files(store) -> Callable[[], dict[str, tuple[bytes, int, int]]]:
    """Photograph every stored file: its bytes, and what changes when it is written again."""

    def files() -> dict[str, tuple[bytes, int, int]]:
        return {
            str(path.relative_to(store.folder)): (
                path.read_bytes(),
                path.stat().st_ino,
                path.stat().st_mtime_ns,
            )
            for path in sorted(store.folder.rglob("*"))
            if path.is_file()
        }

    return files
