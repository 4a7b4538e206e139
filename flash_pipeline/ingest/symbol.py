"""One symbol's part of a refresh: what it needs, and how the answers get to its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flash_pipeline.errors import InconsistentAnswer, UnknownSymbol
from flash_pipeline.ingest.book import GapBook
from flash_pipeline.ingest.gaps import Gap, GapCause, MissingRun, explain, reconcile
from flash_pipeline.ingest.ledger import Ledger
from flash_pipeline.ingest.merge import lay_over, revisions, starts_of, within
from flash_pipeline.ingest.reading import Need, SymbolReading, WindowAnswer, WindowReader
from flash_pipeline.ingest.rules import sound_rows
from flash_pipeline.ingest.windows import REREAD_CANDLES, Starts, runs, starts_to_read
from flash_pipeline.market import Month, TimeRange, iso_utc
from flash_pipeline.storage.klines import KlineStore


@dataclass(frozen=True)
class SymbolOutcome:
    """What became of one symbol."""

    symbol: str
    """Instrument."""
    rows: tuple[int, ...]
    """Candles stored, by month."""
    files_written: int
    """Month files that changed."""
    revisions: int
    """Stored candles that the source has changed since."""
    missing: tuple[MissingRun, ...]
    """What the source does not have of the months."""
    first_start: int | None
    """First instant at which the source may have a candle, ms since the epoch; None if unknown."""
    forgotten: bool = False
    """Whether the source does not know the symbol."""


@dataclass(frozen=True)
class Task:
    """What the symbols of a refresh have in common."""

    reader: WindowReader
    """Asks the source."""
    store: KlineStore
    """Where the candles go."""
    months: Sequence[Month]
    """Months to be read, oldest first; at least one."""
    ledger: Ledger | None
    """Where revisions are recorded."""
    book: GapBook
    """Where gaps are recorded."""
    trades_no_more: Callable[[str], bool]
    """Says whether a symbol is delisted; may ask the source."""

    @property
    def closed(self) -> TimeRange:
        """Range of the months up to what has not closed."""
        start, end = self.months[0].time_range.start, self.months[-1].time_range.end
        return TimeRange(start, max(start, min(end, self.reader.clock.closed_end)))

    def reconciled(self, known: Sequence[Gap], missing: Sequence[MissingRun]) -> list[Gap]:
        """Return the gaps of one symbol from those on record and what is missing now."""
        return reconcile(known, missing, self.closed, self.store.interval, self.reader.clock.now)


class SymbolRefresh:
    """Reads what is stored of a symbol at once, and holds it until `finish`.

    A stored candle that breaks a rule counts as missing: it is read again.

    Parameters
    ----------
    task : Task
        What to do.
    symbol : str
        Instrument.
    """

    def __init__(self, task: Task, symbol: str) -> None:
        self._task, self._symbol = task, symbol
        store, clock = task.store, task.reader.clock
        self._stored = {month: store.read_month(symbol, month) for month in task.months}
        stored = lay_over(store.schema.empty_table(), list(self._stored.values()))
        self._candles = sound_rows(stored, store.interval)
        at_hand = starts_of(self._candles)
        wanted = starts_to_read(at_hand, task.closed, store.interval, clock.closed_end)
        self._months = store.months(symbol) if len(wanted) else []
        self._need = Need(
            symbol,
            wanted,
            at_hand,
            stored_before=bool(self._months) and self._months[0] < task.months[0],
            stored_after=bool(self._months) and self._months[-1] > task.months[-1],
            recorded=lambda: task.book.known().get(symbol, ()),
        )
        self.windows = task.reader.windows(wanted)
        """The windows to be asked for in the first round."""
        self.weight = 1 + len(self.windows) + len(at_hand) // task.reader.source.most_candles
        """Windows' worth of candles that are held until `finish`."""

    def read(self, window: TimeRange) -> WindowAnswer:
        """Ask the source for one of the windows."""
        return self._task.reader.read(self._symbol, window)

    def finish(self, answers: Sequence[WindowAnswer]) -> SymbolOutcome:
        """Ask again for what did not come, and store what did.

        Revisions and gaps are recorded before the candles are stored: a kill in between loses
        none.

        Parameters
        ----------
        answers : sequence of WindowAnswer
            One per window.

        Raises
        ------
        InconsistentAnswer
            If the source's clock, by all of its readings and answers, is far behind what is
            stored. Nothing is written then.
        """
        reading = SymbolReading(self._task.reader, self._need, list(answers))
        reading.ask_again()
        stored = self._closed_before()
        candles = lay_over(stored, [answer.candles for answer in reading.answers])
        missing = self._runs(reading.missing(), starts_of(candles), reading.listed)
        changed = revisions(stored, candles)
        if changed.num_rows and self._task.ledger is not None:
            now = self._task.reader.clock.now
            self._task.ledger.record_revisions(self._symbol, changed, now)
        self._record(missing)
        return self._outcome(
            candles,
            missing,
            files_written=self._write(candles),
            revisions=changed.num_rows,
            first_start=int(starts_of(candles)[0]) if candles.num_rows else reading.listed,
        )

    def forget(self, error: UnknownSymbol) -> SymbolOutcome:
        """Conclude on a symbol that the source does not know.

        What is stored of it stays. It traded once then, so what is missing is on record as
        delisted; of a symbol without candles there is nothing to record.

        Raises
        ------
        InconsistentAnswer
            If the source's list says that the symbol is traded.
        """
        if not self._task.trades_no_more(self._symbol):
            raise InconsistentAnswer(f"{error}, but it is traded", symbol=self._symbol) from error
        missing: list[MissingRun] = []
        if self._months or self._candles.num_rows:
            wanted = self._need.wanted
            absent = wanted[np.isin(wanted, self._need.stored, invert=True)]
            missing = self._runs(absent, self._need.stored, None, forgotten=True)
            self._record(missing)
        first = int(self._need.stored[0]) if len(self._need.stored) else None
        return self._outcome(self._candles, missing, first_start=first, forgotten=True)

    def _closed_before(self) -> pa.Table:
        """Return the stored candles, less those that cannot have been closed yet."""
        open_from, interval = self._task.reader.clock.open_from, self._task.store.interval
        later = [month.time_range.start for month in self._months[-1:]]
        newest = max([*later, *starts_of(self._candles)[-1:].tolist()], default=0)
        if newest - open_from >= REREAD_CANDLES * interval.milliseconds:
            raise InconsistentAnswer(
                f"{self._symbol}: the clock of {self._task.reader.source.name} is at "
                f"{iso_utc(self._task.reader.clock.now)}, candles are stored up to "
                f"{iso_utc(newest)}: its clock is wrong, or they came from one that was ahead; "
                "use another FLASH_PIPELINE_HOME for a source with an earlier clock",
                symbol=self._symbol,
            )
        return within(self._candles, TimeRange(0, open_from))

    def _record(self, missing: Sequence[MissingRun]) -> None:
        if missing:  # what has come after all is put on record once it is stored
            task = self._task
            known = task.book.known().get(self._symbol, ())
            task.book.record(self._symbol, task.reconciled(known, missing))

    def _write(self, candles: pa.Table) -> int:
        written, source = 0, self._task.reader.source
        for month, stored in self._stored.items():
            rows = within(candles, month.time_range)
            if rows.num_rows and not rows.equals(stored):
                self._task.store.write_month(
                    self._symbol,
                    month,
                    rows,
                    synthetic=source.is_synthetic(),
                    source=source.name,
                )
                written += 1
        return written

    def _outcome(
        self,
        candles: pa.Table,
        missing: Sequence[MissingRun],
        *,
        first_start: int | None,
        files_written: int = 0,
        revisions: int = 0,
        forgotten: bool = False,
    ) -> SymbolOutcome:
        rows = tuple(within(candles, month.time_range).num_rows for month in self._task.months)
        return SymbolOutcome(
            self._symbol, rows, files_written, revisions, tuple(missing), first_start, forgotten
        )

    def _runs(
        self, missing: Starts, starts: Starts, listed: int | None, *, forgotten: bool = False
    ) -> list[MissingRun]:
        """Return the runs of missing candles, each with why it is, from those that there are."""

        def cause(first: int, last: int) -> GapCause:
            if not self._task.reader.source.continuous and not forgotten:
                return GapCause.MARKET_CLOSED
            need, some = self._need, len(starts) > 0
            return explain(
                before=need.stored_before or (some and starts[0] < first),
                after=need.stored_after
                or (some and starts[-1] > last)
                or (listed is not None and listed > last),
                known={
                    g.cause for g in need.gaps if g.first_start <= last and first <= g.last_start
                },
                trades_no_more=lambda: forgotten or self._task.trades_no_more(self._symbol),
            )

        return [MissingRun(*run, cause(*run)) for run in runs(missing, self._task.store.interval)]
