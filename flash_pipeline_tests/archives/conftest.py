import gzip
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flash_pipeline.archives import CandleFile, find_files
from flash_pipeline.market import CANDLE_SCHEMA, Interval, parse_instant

HOUR = Interval.HOUR_1


def _price(minute: int) -> float:
    """Return a price that is a function of the UTC minute alone."""
    return 100.0 + minute * 7919 % 997 / 10


def _line(local: str | datetime, price: float = 100.0, volume: float = 1.5) -> str:
    time = local if isinstance(local, str) else local.strftime("%Y.%m.%d %H:%M")
    return f"{time},{price},{price + 2},{price - 2},{price + 1},{volume}"


@pytest.fixture(scope="session")
def line() -> Callable[..., str]:
    """Make a line of the archive, of a time by its own clock."""
    return _line


@pytest.fixture(scope="session")
def lines() -> Callable[..., list[str]]:
    """Make consecutive lines of the archive; prices are a function of the time alone."""

    def lines(first: str, count: int, minutes: int = 60) -> list[str]:
        start = datetime.fromisoformat(first).replace(tzinfo=UTC)
        times = [start + timedelta(minutes=minutes * n) for n in range(count)]
        return [_line(t, _price(int(t.timestamp()) // 60 - 180)) for t in times]

    return lines


@pytest.fixture
def month(tmp_path) -> Callable[..., CandleFile]:
    """Write a month of the archive."""

    def month(
        lines: Sequence[str] | bytes,
        name: str = "BTCUSDT_60_2024-06-01_2024-06-30.csv.gz",
        *,
        folder: Path = tmp_path,
    ) -> CandleFile:
        whole = lines if isinstance(lines, bytes) else "\n".join([*lines, ""]).encode()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_bytes(gzip.compress(whole) if name.endswith(".gz") else whole)
        return find_files([path])[0]

    return month


@pytest.fixture(scope="session")
def candles() -> Callable[..., pa.Table]:
    """Make consecutive candles, less those named as absent; a function of the time alone."""

    def candles(
        first: str, count: int, interval: Interval = HOUR, absent: Sequence[int] = ()
    ) -> pa.Table:
        start, rows = parse_instant(first), list[list[Any]]()
        for n in (n for n in range(count) if n not in set(absent)):
            time = start + n * interval.milliseconds
            price = _price(time // 60_000)
            rows.append([time, price, price + 2, price - 2, price + 1, 1.5, 1.5 * price])
        return pa.Table.from_pylist(
            [dict(zip(CANDLE_SCHEMA.names, row, strict=True)) for row in rows], CANDLE_SCHEMA
        )

    return candles
