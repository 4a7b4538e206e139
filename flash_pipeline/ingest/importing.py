"""Brings candles of files into the store: what it lacks is added, what it has stays.

A candle that is stored came from the exchange itself, or was imported before: it wins. Where both
have one they are compared, and what differs is told; where most of them differ, the files are of
another market or time zone, and nothing is imported. What is missing then, `refresh_klines` asks
the exchange for: the newest candle of each recording as well.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.archives import CandleFile, History, read_history
from flash_pipeline.archives.history import differ
from flash_pipeline.bybit import BybitClient
from flash_pipeline.errors import DataError, SchemaMismatch
from flash_pipeline.ingest.merge import lay_over, starts_of, within
from flash_pipeline.market import Interval, Month, TimeRange, iso_utc
from flash_pipeline.storage.klines import KlineStore

_FEW = 24  # candles: so many may all differ without a verdict on the files
_VALUES = ("open", "high", "low", "close", "volume", "turnover")


@dataclass(frozen=True)
class SymbolImport:
    """What an import did for one symbol."""

    symbol: str
    """Instrument."""
    files: int
    """Files read."""
    candles: int
    """Closed candles of the store's interval in them."""
    added: int
    """Those that the store lacked."""
    differing: int
    """Those that are stored with other values: the stored ones stay."""
    first_difference: str | None
    """The oldest of these in words; None where there is none."""
    incomplete: int
    """Candles left out since the files lack some of the finer ones that they are made of."""
    unclosed: int
    """Candles left out since they have not closed yet, by the clock given."""
    unproven: int
    """Candles of the files left out since they may not have been closed when they were written:
    see `History.unproven`."""
    months_written: int
    """Month files that changed."""
    span: tuple[int, int] | None
    """Start of the first and of the last candle, ms since the epoch; None without any."""


def import_files(
    files: Iterable[CandleFile], store: KlineStore, *, now: int
) -> Iterator[SymbolImport]:
    """Import candle files symbol by symbol; memory holds the candles of one at a time.

    All files of a symbol are read and checked before anything of it is written, and each month's
    file is replaced whole. Again, it adds nothing.

    Parameters
    ----------
    files : iterable of CandleFile
        Of any symbols and of intervals that make the store's.
    store : KlineStore
        Its interval is that of the candles.
    now : int
        Ms since the epoch: what has not closed by then is left out.

    Yields
    ------
    SymbolImport
        When a symbol is stored.

    Raises
    ------
    SchemaMismatch
        If the store holds simulated candles, or those of another interval; or if a symbol's
        stored ones are not Bybit's and a file is of its archive.
    DataError
        If a file is bad, or its candles are not those of the stored market. Symbols that were
        through by then are stored.
    """
    require_real(store)
    ordered = sorted(files, key=lambda file: file.symbol)
    for symbol, group in groupby(ordered, key=lambda file: file.symbol):
        of_symbol = list(group)
        source = _source(of_symbol)
        store.require_kind(synthetic=False, source=source, symbols=[symbol])
        history = read_history(of_symbol, store.interval)
        yield import_history(symbol, history, store, now=now, files=len(of_symbol), source=source)


def import_history(
    symbol: str,
    history: History,
    store: KlineStore,
    *,
    now: int,
    files: int = 1,
    source: str = "",
) -> SymbolImport:
    """Import the candles of one symbol; parameters and errors as of `import_files`.

    Files keep the source that the symbol has in the store, and else get `source`, if it is known.
    """
    require_real(store)
    source = store.source(symbol) or source
    candles, interval = history.candles, store.interval
    closed = within(candles, TimeRange(0, max(0, interval.floor(now))))
    months = {
        month: (store.read_month(symbol, month), within(closed, month.time_range))
        for month in _months(closed)
    }
    comparison = _Comparison(symbol, interval)
    for stored, imported in months.values():
        comparison.add(stored, imported)
    comparison.require_one_market()
    added = written = 0
    for month, (stored, imported) in months.items():
        merged = lay_over(imported, [stored])
        if merged.num_rows > stored.num_rows:
            store.write_month(symbol, month, merged, synthetic=False, source=source)
            added, written = added + merged.num_rows - stored.num_rows, written + 1
    return SymbolImport(
        symbol=symbol,
        files=files,
        candles=closed.num_rows,
        added=added,
        differing=comparison.differing,
        first_difference=comparison.first,
        incomplete=history.incomplete,
        unclosed=candles.num_rows - closed.num_rows,
        unproven=history.unproven,
        months_written=written,
        span=_span(closed),
    )


def require_real(store: KlineStore) -> None:
    """Pass a store that real candles of its interval may be added to.

    Raises
    ------
    SchemaMismatch
        If it holds simulated candles, or those of another interval.
    """
    if store.synthetic():
        raise SchemaMismatch(
            f"{store.folder} holds simulated candles: real ones never stand beside them; "
            "use another FLASH_PIPELINE_HOME for these"
        )
    store.require_kind(synthetic=False)


def _source(files: Iterable[CandleFile]) -> str:
    """Return whose candles the files hold; empty where all are recordings, which do not tell."""
    return BybitClient.name if any(file.format == "archive" for file in files) else ""


class _Comparison:
    """Counts what stored and imported candles of the same starts say differently."""

    def __init__(self, symbol: str, interval: Interval) -> None:
        self._symbol, self._interval = symbol, interval
        self._common = 0
        self.differing = 0
        self.first: str | None = None

    def add(self, stored: pa.Table, imported: pa.Table) -> None:
        """Compare the candles of a month; months come oldest first."""
        _, in_stored, in_imported = np.intersect1d(
            starts_of(stored), starts_of(imported), assume_unique=True, return_indices=True
        )
        one, other = (
            table.take(pa.array(rows))
            for table, rows in ((stored, in_stored), (imported, in_imported))
        )
        fields = [differ(one[name].to_numpy(), other[name].to_numpy(), name) for name in _VALUES]
        wrong = np.flatnonzero(np.any(fields, axis=0))
        self._common += one.num_rows
        self.differing += len(wrong)
        if len(wrong) and self.first is None:
            self.first = self._describe(one, other, fields, int(wrong[0]))

    def require_one_market(self) -> None:
        """Pass unless most of the candles differ.

        Raises
        ------
        DataError
            If they do.
        """
        if self.differing > max(_FEW, self._common // 2):
            raise DataError(
                f"{self._symbol}: {self.differing} of {self._common} candles differ from the "
                f"stored ones, first {self.first}: another market or time zone?"
            )

    def _describe(
        self, one: pa.Table, other: pa.Table, fields: list[npt.NDArray[np.bool_]], row: int
    ) -> str:
        name = next(name for name, wrong in zip(_VALUES, fields, strict=True) if wrong[row])
        was, came = one[name][row].as_py(), other[name][row].as_py()
        return f"{iso_utc(one['start_time'][row].as_py())} {name} {was} stored, {came} imported"


def _months(candles: pa.Table) -> list[Month]:
    span = _span(candles)
    if span is None:
        return []
    months, month = [], Month.containing(span[0])
    while month.time_range.start <= span[1]:
        months.append(month)
        month = month.shift(1)
    return months


def _span(candles: pa.Table) -> tuple[int, int] | None:
    starts = starts_of(candles)
    return (int(starts[0]), int(starts[-1])) if len(starts) else None
