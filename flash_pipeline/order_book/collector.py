"""Polls the order books of some symbols at a cadence, and keeps what it has taken.

tick ──► order_book of each symbol, side by side ──► journals ──► day files, now and then
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

from flash_pipeline.bybit import MOST_LEVELS, BookAnswer
from flash_pipeline.bybit.fields import JsonObject
from flash_pipeline.errors import (
    AccessTooFrequent,
    CircuitOpen,
    InvalidConfig,
    MalformedAnswer,
    SchemaMismatch,
    TransientExchangeError,
)
from flash_pipeline.market import parse_symbols
from flash_pipeline.order_book.journal import Journal, fold_journals
from flash_pipeline.order_book.store import BookStore, day_of
from flash_pipeline.storage.lock import claim_home

MOST_REQUESTS_PER_S = 50.0
"""Half of what the shared budget grants: the rest is for whatever else runs beside."""

_FOLD_S = 900.0
_MOST_THREADS = 16
_BAN_PAUSE_S = 600.0

_log = logging.getLogger(__name__)


class BookSource(Protocol):
    """Where books come from; every method may be called from several threads."""

    def order_book(self, symbol: str, levels: int) -> BookAnswer:
        """Return the best levels of both sides."""
        ...

    def instrument(self, symbol: str) -> JsonObject:
        """Return the exchange's description of an instrument."""
        ...

    def is_synthetic(self) -> bool:
        """Say whether a simulator makes the books."""
        ...


@dataclass(frozen=True)
class CollectorConfig:
    """What to poll.

    Raises
    ------
    InvalidConfig
        If a value is out of its range, or the polls take more than `MOST_REQUESTS_PER_S`.
    InvalidSymbol
        For a malformed or repeated symbol.
    """

    symbols: tuple[str, ...]
    """Instruments."""
    cadence_s: float = 1.0
    """Seconds between two polls of a symbol, at least 0.05; on multiples of it since the epoch."""
    levels: int = 50
    """Levels of each side, 1 to 1000."""
    fold_s: float = _FOLD_S
    """Seconds after which the journals go into the day files."""

    def __post_init__(self) -> None:
        parse_symbols(self.symbols)
        if not self.cadence_s >= 0.05:
            raise InvalidConfig(f"cadence {self.cadence_s} s: expected at least 0.05 s")
        if not 1 <= self.levels <= MOST_LEVELS:
            raise InvalidConfig(f"levels={self.levels}: expected 1 to {MOST_LEVELS}")
        rate = len(self.symbols) / self.cadence_s
        if rate > MOST_REQUESTS_PER_S:
            raise InvalidConfig(
                f"{len(self.symbols)} symbols every {self.cadence_s} s are {rate:.0f} requests a "
                f"second, at most {MOST_REQUESTS_PER_S:.0f} are allowed: poll fewer, or less often"
            )


@dataclass
class Collected:
    """What a collector has taken, by symbol."""

    snapshots: dict[str, int] = field(default_factory=dict)
    """Snapshots written."""
    missed: dict[str, int] = field(default_factory=dict)
    """Polls that brought no new book, those included that came too late to be sent."""
    seconds: float = 0.0
    """From the first poll to the end."""


def collect(
    source: BookSource,
    folder: Path,
    config: CollectorConfig,
    stop: Event,
    *,
    clock: Callable[[], float] = time.time,
    until_s: float | None = None,
) -> Collected:
    """Poll until told to stop, and return what was taken.

    What an earlier collector left in journals is folded first, so that a collector that was killed
    is resumed by starting another. A poll that fails for a transient reason is missed, which the
    stored days list among their gaps; a ban is waited out. Whatever ends the collector, snapshots
    that were taken are in the day files or in the journals.

    Parameters
    ----------
    source : BookSource
        Such as a `BybitClient`.
    folder : Path
        Of the `BookStore`.
    stop : threading.Event
        Ends it within a poll's time; may be set by a signal's handler.
    clock : callable
        Seconds since the epoch.
    until_s : float or None
        Seconds after which it ends by itself.

    Raises
    ------
    HomeBusy
        If another collector is at work in the folder.
    SchemaMismatch
        If the folder holds books of the other kind, or of the day with other levels.
    TerminalExchangeError
        If the exchange refuses for good, such as an unknown symbol.
    HomeNotWritable
        If nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with claim_home(folder) as claim, ExitStack() as stack:
        claim.name_run("flash_pipeline collect-book")
        collector = _Collector(source, BookStore(folder), config, stop, clock)
        collector.prepare()
        pool = stack.enter_context(ThreadPoolExecutor(min(len(config.symbols), _MOST_THREADS)))
        stack.callback(collector.fold)  # whatever ends it
        return collector.run(pool, until_s)


class _Collector:
    """The state of a collector at work."""

    def __init__(
        self,
        source: BookSource,
        store: BookStore,
        config: CollectorConfig,
        stop: Event,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._store = store
        self._config = config
        self._stop = stop
        self._clock = clock
        self._journals = {symbol: Journal(store, symbol) for symbol in config.symbols}
        self._newest = dict.fromkeys(config.symbols, 0)
        self._ticks: dict[str, float] = {}
        self._synthetic = False
        self._collected = Collected(
            dict.fromkeys(config.symbols, 0), dict.fromkeys(config.symbols, 0)
        )

    def prepare(self) -> None:
        """Ask what is needed to store a book, and fold what was left."""
        self._synthetic = self._source.is_synthetic()
        self._store.require_kind(synthetic=self._synthetic)
        for symbol in self._config.symbols:
            self._ticks[symbol] = _tick_size(self._source.instrument(symbol), symbol)
            book = self._source.order_book(symbol, 1)
            stored = self._store.levels(symbol, day_of(book.time))
            if stored not in (None, self._config.levels):
                raise SchemaMismatch(
                    f"{self._store.path(symbol, day_of(book.time))} has {stored} levels, asked for "
                    f"{self._config.levels}: collect as many, or from tomorrow on"
                )
        self.fold()

    def run(self, pool: ThreadPoolExecutor, until_s: float | None) -> Collected:
        """Poll, until told to stop or time is up."""
        cadence = self._config.cadence_s
        begun = self._clock()
        number, folded = int(begun // cadence) + 1, begun
        while not self._stop.wait(max(0.0, number * cadence - self._clock())):
            if until_s is not None and number * cadence > begun + until_s:
                break
            self._poll(pool)
            now = self._clock()
            if now - folded >= self._config.fold_s:
                self.fold()
                folded = now
            following = max(number + 1, int(self._clock() // cadence))
            for symbol in self._config.symbols:
                self._collected.missed[symbol] += following - number - 1
            number = following
        self._collected.seconds = self._clock() - begun
        return self._collected

    def fold(self) -> None:
        """Move what the journals hold into the day files."""
        for symbol, journal in self._journals.items():
            journal.close()
            fold_journals(
                self._store,
                symbol,
                levels=self._config.levels,
                cadence_ms=round(self._config.cadence_s * 1000),
                tick_size=self._ticks[symbol],
                synthetic=self._synthetic,
            )

    def _poll(self, pool: ThreadPoolExecutor) -> None:
        levels = self._config.levels
        asked = [
            (symbol, pool.submit(self._source.order_book, symbol, levels))
            for symbol in self._config.symbols
        ]
        banned = 0.0
        for symbol, answer in asked:
            banned = max(banned, self._keep(symbol, answer))
        if banned:
            self._stop.wait(banned)

    def _keep(self, symbol: str, answer: "Future[BookAnswer]") -> float:
        """Write an answer to its journal; return for how many seconds a ban lasts."""
        try:
            book = answer.result()
        except (AccessTooFrequent, CircuitOpen) as error:
            self._collected.missed[symbol] += 1
            _log.warning("%s: %s", symbol, error)
            until = error.until
            return _BAN_PAUSE_S if until is None else max(1.0, until / 1000 - self._clock())
        except TransientExchangeError as error:
            self._collected.missed[symbol] += 1
            _log.warning("%s: no book: %s", symbol, error)
            return 0.0
        if book.time <= self._newest[symbol] or not (book.bids and book.asks):
            self._collected.missed[symbol] += 1
            return 0.0
        self._journals[symbol].append(book, self._config.levels)
        self._newest[symbol] = book.time
        self._collected.snapshots[symbol] += 1
        return 0.0


def _tick_size(instrument: JsonObject, symbol: str) -> float:
    try:
        tick = float(instrument["priceFilter"]["tickSize"])
    except (KeyError, TypeError, ValueError):
        tick = 0.0
    if not tick > 0:
        raise MalformedAnswer(f"{symbol} is described without a priceFilter.tickSize above 0")
    return tick
