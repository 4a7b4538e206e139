"""Days of order books as Bybit's archive has them: a zip of JSON lines, a snapshot, then deltas.

    /orderbook/linear/BTCUSDT/2026-03-10_BTCUSDT_ob200.data.zip

Bybit's own files have a line for every 100 ms; these have one for every second, which is what the
pipeline samples them by. A level that leaves the nearest 200 (500) is deleted, as there.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flash_pipeline.errors import InvalidInput
from flash_pipeline.exchange.flow_book import Scale, nearest_only
from flash_pipeline.exchange.instruments import Instrument
from flash_pipeline.exchange.simulation.order_flow import Depth, OrderFlow
from flash_pipeline.exchange.simulation.price_path import STEP_MS
from flash_pipeline.exchange.source import Market, listed_instrument
from flash_pipeline.market import Interval, iso_utc, parse_instant

UPDATE_MS = 1_000
"""Milliseconds from one line of a file to the next."""

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)_([A-Z0-9]{2,20})_ob(200|500)\.data\.zip")
_DAY_MS = Interval.DAY_1.milliseconds
_KEPT = 2  # files, 20 to 60 MB each
_FAST = 1  # of zlib's levels
_STRIDE = UPDATE_MS // STEP_MS

Row = tuple[int, npt.NDArray[np.int32]]
"""The price of the first column, and the orders shown at each price."""


@dataclass(frozen=True)
class BookArchive:
    """Which file."""

    symbol: str
    """Instrument."""
    start_ms: int
    """Midnight, ms since the epoch, UTC."""
    levels: int
    """Levels of each side: 200 or 500."""

    @property
    def member(self) -> str:
        """Name of the file within the zip."""
        return f"{iso_utc(self.start_ms)[:10]}_{self.symbol}_ob{self.levels}.data"


class BookArchives:
    """The files of a market; may be read by several threads.

    Parameters
    ----------
    market : Market
        Where the books come from.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._lock = Lock()
        self._make = lru_cache(maxsize=_KEPT)(self._make_zip)

    def find(self, symbol: str, name: str, now: int) -> BookArchive | None:
        """Return the file of a name; None where there is none at an instant (ms).

        A day has a file once it is over, if the instrument traded in it.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[2] != symbol:
            return None
        try:
            start = parse_instant(match[1])
            instrument = listed_instrument(self._market, symbol)
            flow = self._market.order_flow(symbol)
        except InvalidInput:
            return None
        if flow is None or start + _DAY_MS > now or not _traded(instrument, start):
            return None
        return BookArchive(symbol, start, int(match[3]))

    def read(self, archive: BookArchive) -> bytes:
        """Return a file; making one takes about ten seconds."""
        with self._lock:
            return self._make(archive)

    def _make_zip(self, archive: BookArchive) -> bytes:
        flow = self._market.order_flow(archive.symbol)
        assert flow is not None
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as file:
            entry = zipfile.ZipInfo(archive.member)  # of no date: equal days make equal files
            entry.compress_type = zipfile.ZIP_DEFLATED
            with file.open(entry, "w", force_zip64=True) as member:
                for lines in archive_lines(flow, archive):
                    member.write(lines)
        return buffer.getvalue()


def archive_lines(
    flow: OrderFlow, archive: BookArchive, updates: int | None = None
) -> Iterator[bytes]:
    """Yield the lines of a file, many at a time.

    Parameters
    ----------
    flow : OrderFlow
        Of the archive's symbol.
    archive : BookArchive
        Which day and how many levels.
    updates : int or None
        Lines wanted; None for the whole day, from the launch on and up to a delisting.
    """
    instrument = flow.instrument
    first = max(archive.start_ms, -(-instrument.launch_ms // UPDATE_MS) * UPDATE_MS)
    last = min(archive.start_ms + _DAY_MS, instrument.delist_ms or archive.start_ms + _DAY_MS)
    steps = range(first // STEP_MS, last // STEP_MS, _STRIDE)[:updates]
    scale = Scale(flow)
    shown: list[Row | None] = [None, None]
    kind = "snapshot"
    for part, *sides in flow.depth(steps, archive.levels):
        texts = []
        for i, (depth, direction) in enumerate(zip(sides, (-1, 1), strict=True)):
            text, shown[i] = _changes(scale, depth, shown[i], archive.levels, direction)
            texts.append(text)
        kinds = [kind] + ["delta"] * (len(part) - 1)
        yield _lines(archive, part, kinds, texts[0], texts[1])
        kind = "delta"


def _traded(instrument: Instrument, start: int) -> bool:
    return instrument.launch_ms < start + _DAY_MS - UPDATE_MS and (
        instrument.delist_ms is None or start < instrument.delist_ms
    )


def _changes(
    scale: Scale, depth: Depth, before: Row | None, levels: int, direction: int
) -> tuple[pa.Array, Row]:
    """Return the text of what changes at each time, [times], and the levels shown at the end.

    A text is `["6005","0.6"],["6000","0"]`, the nearest price first; empty for no change.
    """
    orders = nearest_only(depth, levels, direction)
    first, width = depth.first, orders.shape[1]
    if before is not None:
        first = min(first, before[0])
        width = max(depth.first + width, before[0] + len(before[1])) - first
    table = np.zeros((len(orders) + 1, width), np.int32)
    if before is not None:
        table[0, before[0] - first :][: len(before[1])] = before[1]
    table[1:, depth.first - first :][:, : orders.shape[1]] = orders
    times, columns = np.nonzero(np.diff(table[:, ::direction], axis=0))
    now = table[1:, ::direction][times, columns]
    prices = scale.prices(np.arange(first, first + width)[::direction]).take(pa.array(columns))
    sizes = scale.sizes(np.arange(int(now.max(initial=0)) + 1)).take(pa.array(now))
    rows = pc.binary_join_element_wise('["', prices, '","', sizes, '"]', "")
    ends = np.searchsorted(times, np.arange(len(orders) + 1)).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(ends, rows), ","), (first, table[-1])


def _lines(
    archive: BookArchive, part: range, kinds: list[str], bids: pa.Array, asks: pa.Array
) -> bytes:
    times = pa.array(np.asarray(part) * STEP_MS).cast(pa.string())
    updates = pa.array(np.asarray(part) // _STRIDE).cast(pa.string())
    topic = f'{{"topic":"orderbook.{archive.levels}.{archive.symbol}","ts":'
    lines = pc.binary_join_element_wise(
        topic,
        times,
        ',"type":"',
        pa.array(kinds),
        f'","data":{{"s":"{archive.symbol}","b":[',
        bids,
        '],"a":[',
        asks,
        '],"u":',
        updates,
        ',"seq":',
        updates,
        '},"cts":',
        times,
        "}\n",
        "",
    )
    whole: str = pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(lines)]), lines), "")[
        0
    ].as_py()
    return whole.encode()
