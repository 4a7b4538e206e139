"""Many symbols' windows in flight, few symbols' candles in memory."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from flash_pipeline.errors import UnknownSymbol
from flash_pipeline.ingest.reading import WindowAnswer
from flash_pipeline.ingest.symbol import SymbolOutcome, SymbolRefresh

_REQUESTS_AT_ONCE = 32
_WINDOWS_AHEAD = 96
"""Windows' worth of candles in memory, unless two symbols take more."""

_SYMBOLS_AT_ONCE = 8
"""Symbols merged and written at a time: each waits for the disk, and for the interpreter."""


def run_in_order(symbols: Iterable[SymbolRefresh]) -> Iterator[SymbolOutcome]:
    """Read and store symbols, many windows at a time, and yield their outcomes in order.

    Windows are asked for in the order of the symbols; a symbol is merged and written as soon as
    all of its windows are in, while those of the next ones are under way. `symbols` is drawn from
    only as windows come in. The first failure is raised; what was under way then still ends. That
    a source does not know a symbol is no failure here: it is the symbol's outcome.
    """
    ahead: deque[tuple[Future[SymbolOutcome], int]] = deque()
    windows = 0
    with (
        _pool(_REQUESTS_AT_ONCE, "windows") as readers,
        _pool(_SYMBOLS_AT_ONCE, "symbols") as finishers,
    ):
        for symbol in symbols:
            answers = [readers.submit(symbol.read, window) for window in symbol.windows]
            ahead.append((finishers.submit(_finish, symbol, answers), symbol.weight))
            windows += ahead[-1][1]
            while windows > _WINDOWS_AHEAD and len(ahead) > 1:
                done, taken = ahead.popleft()
                windows -= taken
                yield done.result()
        for done, _ in ahead:
            yield done.result()


def _finish(symbol: SymbolRefresh, answers: list[Future[WindowAnswer]]) -> SymbolOutcome:
    try:
        return symbol.finish([answer.result() for answer in answers])
    except UnknownSymbol as error:
        return symbol.forget(error)


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        yield pool
    finally:
        # After a failure nothing more is asked for; after success there is nothing left.
        pool.shutdown(cancel_futures=True)
