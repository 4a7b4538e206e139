"""Streams of order books, made by a plain rule and rebuilt by a plain one."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flash_pipeline.market import parse_instant
from flash_pipeline.order_book import BookSeries
from flash_pipeline.order_book.snapshots import series_of_prices

START = parse_instant("2026-03-10")
NAME = "2026-03-10_BTCUSDT_ob200.data"

Line = dict[str, Any]


def line(kind: str, at_ms: int, update: int, bids: Sequence, asks: Sequence, **data: Any) -> Line:
    levels = [[[f"{price:g}", f"{size:g}"] for price, size in side] for side in (bids, asks)]
    whole = {"s": "BTCUSDT", "b": levels[0], "a": levels[1], "u": update, "seq": update, **data}
    return {"topic": "orderbook.200.BTCUSDT", "ts": START + at_ms, "type": kind, "data": whole}


def random_stream(seed: int, count: int = 400, depth: int = 12) -> list[Line]:
    """A book that never crosses: bids below a wandering price, asks above it."""
    random = np.random.default_rng(seed)
    middle, at, lines = 1000, 0, []
    book: list[dict[float, float]] = [{}, {}]
    for update in range(count):
        middle += int(random.integers(-2, 3))
        at += int(random.choice([20, 100, 130, 900]))
        changes = [_changes(random, book[i], middle, sign, depth) for i, sign in ((0, -1), (1, 1))]
        for side, changed in zip(book, changes, strict=True):
            side.update(changed)
            for price in [price for price, size in side.items() if not size]:
                del side[price]
        restarts = update in (0, count // 2)
        shown = book if restarts else changes
        kind = "snapshot" if restarts else "delta"
        lines.append(line(kind, at, 1000 + update, *(list(side.items()) for side in shown)))
    return lines


def _changes(
    random: np.random.Generator, side: dict[float, float], middle: int, sign: int, depth: int
) -> dict[float, float]:
    gone = {p: 0.0 for p in side if sign * (p - middle) <= 0 or random.random() < 0.05}
    drawn = [float(middle + sign * int(random.integers(1, 2 * depth))) for _ in range(4)]
    changes = gone | {price: float(random.integers(1, 50)) / 8 for price in drawn}
    nearest = {float(middle + sign * (n + 1)): 1.5 for n in range(depth)}  # never thin
    return (
        nearest | changes
        if not side
        else changes | {p: s for p, s in nearest.items() if p not in side or changes.get(p) == 0}
    )


def plain_rebuild(lines: Sequence[Line], levels: int, cadence: int) -> dict[int, Any]:
    """Level by level: the nearest levels of both sides at each multiple of the cadence."""
    books: list[dict[float, float]] = [{}, {}]
    found = {}
    for now, following in zip(lines, [*lines[1:], None], strict=True):
        if now["type"] == "snapshot":
            books = [{}, {}]
        for side, name in enumerate("ba"):
            for price, size in now["data"][name]:
                books[side].pop(float(price), None)
                if float(size):
                    books[side][float(price)] = float(size)
        end = now["ts"] + 1 if following is None else following["ts"]
        for time in range(-(-now["ts"] // cadence) * cadence, end, cadence):
            bids = sorted(books[0].items(), reverse=True)[:levels]
            found[time] = (bids, sorted(books[1].items())[:levels])
    return found


@pytest.fixture
def archive(tmp_path) -> Callable[..., Path]:
    """Write lines to a file named as the archive's are."""

    def write(lines: Sequence[Line | str], name: str = NAME) -> Path:
        texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
        path = tmp_path / name
        path.write_text("\n".join(texts) + "\n")
        return path

    return write


def made_series(
    count: int, levels: int = 3, *, seed: int = 0, start: int = START, symbol: str = "BTCUSDT"
) -> BookSeries:
    """A made-up series at one snapshot a second."""
    random = np.random.default_rng(seed)
    middle = 1000 + np.cumsum(random.integers(-2, 3, count))
    away = np.arange(levels)[None, :] + 1
    price = np.stack([middle[:, None] - away, middle[:, None] + away], axis=2).astype(float)
    size = random.integers(1, 20, (count, levels, 2)).astype(float)
    time = start + 1000 * np.arange(count)
    return series_of_prices(symbol, time, np.arange(count), price, size, tick_size=0.5)
