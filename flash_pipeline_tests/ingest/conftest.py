"""A source in memory that does what a test tells it to."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.ingest import KlineRefresh, Ledger, refresh_klines
from flash_pipeline.ingest.merge import within
from flash_pipeline.market import (
    CANDLE_SCHEMA,
    CandleAnswer,
    Interval,
    Month,
    TimeRange,
    parse_instant,
)
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000


@dataclass(frozen=True)
class Asked:
    """A window that the source was asked for."""

    symbol: str
    interval: Interval
    window: TimeRange

    @property
    def hours(self) -> int:
        return (self.window.end - self.window.start) // HOUR


@dataclass
class FakeSource:
    """Hourly candles by symbol, and a clock that stands still."""

    truth: dict[str, pa.Table]
    now_ms: int = 0
    clock: list[int] = field(default_factory=list)
    """Readings of the clock to come, before it stands at `now_ms`."""
    distort: Callable[[Asked, CandleAnswer], CandleAnswer] = lambda _, answer: answer
    """Makes what is answered of what should be; may raise."""
    gone: frozenset[str] = frozenset()
    """Symbols that trade no more."""
    name: str = "fake"
    continuous: bool = True
    most_candles: int = 1000
    synthetic: bool = False
    asked: list[Asked] = field(default_factory=list)
    asked_for_delisted: int = 0

    def now(self) -> int:
        return self.clock.pop(0) if self.clock else self.now_ms

    def is_synthetic(self) -> bool:
        return self.synthetic

    def candles(self, symbol: str, interval: Interval, window: TimeRange) -> CandleAnswer:
        asked = Asked(symbol, interval, window)
        self.asked.append(asked)
        table = self.truth[symbol]
        if interval is Interval.DAY_1:
            starts = table["start_time"].to_numpy()
            first_of_day = np.flatnonzero(np.diff(starts // (24 * HOUR), prepend=-1))
            days = starts[first_of_day] // (24 * HOUR) * 24 * HOUR
            table = table.take(first_of_day).set_column(0, CANDLE_SCHEMA[0], pa.array(days))
        closed_end = interval.floor(self.now_ms)
        rows = within(
            table, TimeRange(window.start, max(window.start, min(window.end, closed_end)))
        )
        return self.distort(asked, CandleAnswer(rows, self.now_ms))

    def delisted(self, symbols: Sequence[str]) -> frozenset[str]:
        self.asked_for_delisted += 1
        return self.gone & set(symbols)


def make_series(
    first: str, hours: int, *, level: float = 100.0, absent: Iterable[int] = ()
) -> pa.Table:
    absent = set(absent)
    rows = []
    for n in (n for n in range(hours) if n not in absent):
        time = parse_instant(first) + n * HOUR
        close = level + (time // HOUR * 7919 % 997) / 100  # a function of the time alone
        volume = 1.5 + n % 5
        rows.append([time, close + 0.1, close + 1.0, close - 1.0, close, volume, close * volume])
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, CANDLE_SCHEMA, strict=True)],
        schema=CANDLE_SCHEMA,
    )


@pytest.fixture(scope="session")
def series() -> Callable[..., pa.Table]:
    """Make hourly candles from a time on, less those of the hours named as absent."""
    return make_series


@pytest.fixture(scope="session")
def market() -> Callable[..., FakeSource]:
    """Make a source of candles by symbol."""
    return lambda **truth: FakeSource(truth)


@pytest.fixture
def store(tmp_path) -> KlineStore:
    return KlineStore(tmp_path / "klines", Interval.HOUR_1)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "warehouse.duckdb", "fake", Interval.HOUR_1)


@pytest.fixture
def refresh(store) -> Callable[..., tuple[KlineRefresh, list[Asked]]]:
    """Refresh the store from a source whose clock stands at a time.

    Gives what the refresh did, and the windows that it asked for.
    """

    def refresh(
        source: FakeSource,
        now: str,
        first: str,
        last: str | None = None,
        *,
        symbols: Sequence[str] = ("BTCUSDT",),
        into: KlineStore = store,
        ledger: Ledger | None = None,
    ) -> tuple[KlineRefresh, list[Asked]]:
        source.now_ms, source.asked = parse_instant(now), []
        months = Month.parse(first), Month.parse(last or first)
        done = refresh_klines(source, into, symbols, *months, ledger=ledger)
        return done, source.asked

    return refresh


@pytest.fixture
def files(store) -> Callable[[], dict[str, tuple[bytes, int, int]]]:
    """Photograph every stored file: its bytes, and what changes when it is written again."""

    def photograph(path: Path) -> tuple[bytes, int, int]:
        return path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns

    return lambda: {
        str(path.relative_to(store.folder)): photograph(path)
        for path in sorted(store.folder.rglob("*"))
        if path.is_file()
    }
