from collections.abc import Callable, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from flash_pipeline.features import FEATURE_NAMES, FeatureRefresh, read_features, refresh_features
from flash_pipeline.market import CANDLE_SCHEMA, Interval, Month, parse_instant
from flash_pipeline.storage.klines import KlineStore

HOUR = 3_600_000


@pytest.fixture
def store(tmp_path) -> KlineStore:
    return KlineStore(tmp_path / "klines", Interval.HOUR_1)


@pytest.fixture
def connection():
    # No annotation of DuckDB's here: with hypothesis in the process it would outlive the
    # interpreter, and DuckDB would report a leak after the summary.
    with duckdb.connect() as connection:
        yield connection


def _candles(closes, volumes, first: str = "2024-06-01", absent: Sequence[int] = ()) -> pa.Table:
    start = parse_instant(first)
    rows = [
        [start + n * HOUR, close, close + 1, close - 1, close, volume, None]
        for n, (close, volume) in enumerate(zip(closes, volumes, strict=True))
        if n not in set(absent)
    ]
    return pa.Table.from_arrays(
        [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), CANDLE_SCHEMA, strict=True)],
        schema=CANDLE_SCHEMA,
    )


@pytest.fixture(scope="session")
def candles() -> Callable[..., pa.Table]:
    """Make hourly candles of given closes and volumes, less those of the hours absent."""
    return _candles


@pytest.fixture(scope="session")
def walk() -> Callable[..., pa.Table]:
    """Make hourly candles of a seeded random walk."""

    def walk(
        hours: int, first: str = "2024-06-01", *, seed: int = 1, absent: Sequence[int] = ()
    ) -> pa.Table:
        random = np.random.default_rng(seed)
        closes = 100 * np.exp(np.cumsum(random.normal(0, 0.01, hours)))
        return _candles(closes.tolist(), random.uniform(1, 9, hours).tolist(), first, absent)

    return walk


@pytest.fixture
def write(store) -> Callable[..., None]:
    """Store candles of a symbol, each month in its file; a month's old file is replaced."""

    def write(candles: pa.Table, symbol: str = "BTCUSDT") -> None:
        months = [Month.containing(start) for start in candles["start_time"].to_pylist()]
        for month in sorted(set(months)):
            rows = candles.filter(pa.array([each == month for each in months]))
            store.write_month(symbol, month, rows, synthetic=True)

    return write


@pytest.fixture
def refresh(connection, store) -> Callable[..., FeatureRefresh]:
    """Refresh the features of a range of months."""

    def refresh(
        first: str = "2024-06",
        last: str | None = None,
        *,
        symbols: Sequence[str] = ("BTCUSDT",),
        into=connection,
    ) -> FeatureRefresh:
        months = Month.parse(first), Month.parse(last or first)
        return refresh_features(into, store, symbols, *months)

    return refresh


@pytest.fixture
def values(connection) -> Callable[..., dict[str, np.ndarray]]:
    """Read a symbol's features, oldest first; NaN where they are null."""

    def values(symbol: str = "BTCUSDT", *, of=connection) -> dict[str, np.ndarray]:
        table = read_features(of, [symbol], 0)
        names = ("start_time", "close", "volume", *FEATURE_NAMES)
        return {name: np.array(table[name].to_pylist(), dtype=float) for name in names}

    return values


@pytest.fixture
def recomputed(values, refresh) -> Callable[..., dict[str, np.ndarray]]:
    """Compute the features of a symbol from nothing, in a warehouse of their own."""

    def recomputed(
        first: str = "2024-06", last: str | None = None, *, symbol: str = "BTCUSDT"
    ) -> dict[str, np.ndarray]:
        with duckdb.connect() as fresh:
            refresh(first, last, symbols=[symbol], into=fresh)
            return values(symbol, of=fresh)

    return recomputed


@pytest.fixture
def rows(connection) -> Callable[[], list[tuple]]:
    """Photograph the table of features, to the last bit."""
    return lambda: connection.execute("FROM features ORDER BY start_time, symbol").fetchall()
