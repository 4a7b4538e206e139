"""One symbol's part of a refresh: what it needs, and how the answers get to its files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from flash_pipeline.ingest.gaps import Gap, GapCause, MissingRun, explain
from flash_pipeline.ingest.ledger import Ledger
from flash_pipeline.ingest.merge import lay_over, revisions, starts_of, within
from flash_pipeline.ingest.reading import Need, SymbolReading, WindowAnswer, WindowReader
from flash_pipeline.ingest.windows import Starts, runs, starts_to_read
from flash_pipeline.market import Month, TimeRange
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
    trades_no_more: Callable[[str], bool]
    """Says whether a symbol is delisted; may ask the source."""

    @property
    def closed(self) -> TimeRange:
        """Range of the months up to what has not closed."""
        start, end = self.months[0].time_range.start, self.months[-1].time_range.end
        return TimeRange(start, max(start, min(end, self.reader.clock.closed_end)))


class SymbolRefresh:
    """Reads what is stored of a symbol at once, and holds it until `finish`.

    Parameters
    ----------
    task : Task
        What to do.
    symbol : str
        Instrument.
    gaps : sequence of Gap
        Open gaps that were recorded before.
    """

    def __init__(self, task: Task, symbol: str, gaps: Sequence[Gap]) -> None:
        self._task, self._symbol = task, symbol
        store, clock = task.store, task.reader.clock
        self._stored = {month: store.read_month(symbol, month) for month in task.months}
        self._candles = lay_over(store.schema.empty_table(), list(self._stored.values()))
        at_hand = starts_of(self._candles)
        wanted = starts_to_read(at_hand, task.closed, store.interval, clock.closed_end)
        months = store.months(symbol) if len(wanted) else []
        self._need = Need(
            symbol,
            wanted,
            at_hand,
            stored_before=bool(months) and months[0] < task.months[0],
            stored_after=bool(months) and months[-1] > task.months[-1],
            gaps=gaps,
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

        Revisions are recorded before the candles are stored: a kill in between loses none.

        Parameters
        ----------
        answers : sequence of WindowAnswer
            One per window.
        """
        reading = SymbolReading(self._task.reader, self._need, list(answers))
        reading.ask_again()
        stored = self._closed_before()
        candles = lay_over(stored, [answer.candles for answer in reading.answers])
        changed = revisions(stored, candles)
        if changed.num_rows and self._task.ledger is not None:
            now = self._task.reader.clock.now
            self._task.ledger.record_revisions(self._symbol, changed, now)
        by_month = {month: within(candles, month.time_range) for month in self._task.months}
        missing = [
            MissingRun(*run, self._cause(*run, starts_of(candles), reading.listed))
            for run in runs(reading.missing(), self._task.store.interval)
        ]
        return SymbolOutcome(
            self._symbol,
            tuple(rows.num_rows for rows in by_month.values()),
            self._write(by_month),
            changed.num_rows,
            tuple(missing),
            int(candles["start_time"][0].as_py()) if candles.num_rows else reading.listed,
        )

    def _closed_before(self) -> pa.Table:
        """Return the stored candles, less those that cannot have been closed yet."""
        return within(self._candles, TimeRange(0, self._task.reader.clock.open_from))

    def _write(self, by_month: dict[Month, pa.Table]) -> int:
        written = 0
        synthetic = self._task.reader.source.is_synthetic()
        for month, rows in by_month.items():
            if rows.num_rows and not rows.equals(self._stored[month]):
                self._task.store.write_month(self._symbol, month, rows, synthetic=synthetic)
                written += 1
        return written

    def _cause(self, first: int, last: int, starts: Starts, listed: int | None) -> GapCause:
        """Say why the candles from `first` to `last` are missing, from those that there are."""
        if not self._task.reader.source.continuous:
            return GapCause.MARKET_CLOSED
        need, some = self._need, len(starts) > 0
        return explain(
            before=need.stored_before or (some and starts[0] < first),
            after=need.stored_after
            or (some and starts[-1] > last)
            or (listed is not None and listed > last),
            known={g.cause for g in need.gaps if g.first_start <= last and first <= g.last_start},
            trades_no_more=lambda: self._task.trades_no_more(self._symbol),
        )
