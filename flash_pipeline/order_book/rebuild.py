"""A book rebuilt from a snapshot and deltas, checked at every line and sampled at a cadence.

Lines are taken in blocks. Of a block and a side one table is made, [lines, prices], that holds the
size at each price after each line: changes are scattered into it and carried forward. Best prices
of every line and the nearest levels of the sampled ones are read off the table at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flash_pipeline.errors import DataError
from flash_pipeline.market import iso_utc
from flash_pipeline.order_book.lines import Changes, Lines
from flash_pipeline.order_book.snapshots import BookGap

_BLOCK_LINES = 256
_BLOCK_CHANGES = 16_384
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What is asked of a stream."""

    levels: int
    """Levels of each side in a snapshot."""
    cadence_ms: int
    """Milliseconds between two snapshots: multiples of it since the epoch."""
    strict: bool = True
    """Whether damage is an error; otherwise it is recorded as a gap."""
    most_silence_ms: int = 5_000
    """A book without a line for longer is not known."""


@dataclass
class Samples:
    """Snapshots in absolute prices, in parts that follow one another."""

    time: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Ms since the epoch, [T] each."""
    update: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Update ids, [T] each."""
    price: list[Floats] = field(default_factory=list)
    """[T, L, S] each; NaN where a side has fewer levels."""
    size: list[Floats] = field(default_factory=list)
    """[T, L, S] each."""
    gaps: list[BookGap] = field(default_factory=list)
    """What is missing."""
    seen: list[Floats] = field(default_factory=list)
    """Every price that a line named, [prices] each."""


@dataclass(frozen=True)
class _Side:
    """The levels of a side, the best first."""

    price: Floats
    size: Floats


@dataclass(frozen=True)
class _Table:
    """A side after each line of a block; the first row is before the block."""

    price: Floats
    """Of the columns, the best first."""
    size: Floats
    """[lines + 1, prices]."""


_EMPTY = _Side(np.empty(0), np.empty(0))


class Rebuilder:
    """Takes the lines of one stream in order and collects samples of its book.

    Parameters
    ----------
    rules : Rules
        What to sample, and what to do about damage.
    source : str
        Named in errors.
    """

    def __init__(self, rules: Rules, source: str) -> None:
        self.samples = Samples()
        self._rules = rules
        self._source = source
        self._sides: tuple[_Side, _Side] | None = None
        self._time: int | None = None
        self._update = 0
        self._lost: tuple[str, int, str] | None = None

    def add(self, lines: Lines) -> None:
        """Take further lines.

        Raises
        ------
        DataError
            If a line is older than the one before, or where the rules are strict for a skipped
            update id, a crossed book, a book of too few levels or one that is silent for long.
        """
        self.samples.seen += [np.unique(side.price) for side in lines.sides]
        for number in lines.torn:
            self._damage("torn", self._time or 0, f"line {number} is no JSON")
        self._require_order(lines)
        for start, stop in _blocks(lines):
            self._add_block(lines, start, stop)

    def finish(self) -> Samples:
        """Return the samples; that of the last line's own instant included."""
        if self._time is not None and self._sides is not None:
            cadence = self._rules.cadence_ms
            if self._time % cadence == 0:
                tables = [_Table(side.price, side.size[None]) for side in self._sides]
                rows, times = np.zeros(1, np.int64), np.array([self._time])
                self._sample(tables, rows, times, np.array([self._update]))
        self._close_gap(self._time or 0)
        return self.samples

    def _require_order(self, lines: Lines) -> None:
        before = lines.time[:1] if self._time is None else self._time
        back = np.flatnonzero(np.diff(lines.time, prepend=before) < 0)
        if len(back):
            raise DataError(
                f"{self._source} line {lines.number[back[0]]}: its time {lines.time[back[0]]} is "
                "before that of the line before"
            )

    def _add_block(self, lines: Lines, start: int, stop: int) -> None:
        """Take the lines of a block: a snapshot may only be its first."""
        if lines.snapshot[start]:
            self._wait_until(int(lines.time[start]))
            self._close_gap(int(lines.time[start]))
            self._sides = (_EMPTY, _EMPTY)
            self._apply(lines, start, start + 1)
            start += 1
        skipped = self._skipped(lines, start, stop)
        if self._sides is not None and start < skipped:
            self._apply(lines, start, skipped)
        if skipped < stop:
            before = self._update if skipped == start else int(lines.update[skipped - 1])
            self._lose(
                "missing",
                f"line {lines.number[skipped]} has update {lines.update[skipped]}, "
                f"expected {before + 1}",
                int(lines.time[skipped]),
            )

    def _skipped(self, lines: Lines, start: int, stop: int) -> int:
        """Return the first line whose update id does not follow; `stop` where all do."""
        if self._sides is None:
            if self._lost is None and start < stop:
                time = int(lines.time[start])
                self._lose("missing", f"line {lines.number[start]} comes before a snapshot", time)
            return stop
        steps = np.diff(lines.update[start:stop], prepend=self._update)
        return start + int(np.argmax(np.append(steps != 1, True)))

    def _apply(self, lines: Lines, start: int, stop: int) -> None:
        """Carry the book through lines, sample it, and look for a crossed one."""
        assert self._sides is not None
        tables = [
            _tabulate(side, changes, start, stop, sign)
            for side, changes, sign in zip(self._sides, lines.sides, (-1, 1), strict=True)
        ]
        crossed = start + _first_crossed(*tables)
        good = min(stop, crossed)
        time = lines.time[start:good]
        if self._time is not None and not (lines.snapshot[start] and start < good):
            before = np.append(self._time, time[:-1])
            updates = np.append(self._update, lines.update[start : good - 1])
            rows, times = self._grid(before, time)
            self._sample(tables, rows, times, updates[rows])
        if good > start:
            self._time, self._update = int(time[-1]), int(lines.update[good - 1])
            sides = [_after(table, good - start) for table in tables]
            self._sides = (sides[0], sides[1])
        if crossed < stop:
            self._lose("crossed", f"line {lines.number[crossed]}", int(lines.time[crossed]))

    def _grid(
        self, before: npt.NDArray[np.int64], time: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the samples that fall between lines: row of the table, and time.

        A sample shows the book after the last line up to its own instant.
        """
        cadence = self._rules.cadence_ms
        first, last = -(-before // cadence), -(-time // cadence)
        counts = last - first
        rows = np.repeat(np.arange(len(time)), counts)
        offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        times = (first[rows] + offset) * cadence
        silent = times - before[rows] > self._rules.most_silence_ms
        for row in np.unique(rows[silent]):
            start, end = int(before[row]), int(time[row])
            self._damage("silence", start, f"no line for {end - start} ms", end)
        return rows[~silent], times[~silent]

    def _sample(
        self,
        tables: list[_Table],
        rows: npt.NDArray[np.int64],
        times: npt.NDArray[np.int64],
        updates: npt.NDArray[np.int64],
    ) -> None:
        if not len(rows):
            return
        levels = self._rules.levels
        price = np.full((len(rows), levels, 2), np.nan)
        size = np.full((len(rows), levels, 2), np.nan)
        for i, table in enumerate(tables):
            sizes = table.size[rows]
            live = sizes > 0
            rank = np.cumsum(live, axis=1, dtype=np.int32)
            row, column = np.nonzero(live & (rank <= levels))
            place = rank[row, column] - 1
            price[row, place, i] = table.price[column]
            size[row, place, i] = sizes[row, column]
        thin = np.isnan(price[:, -1]).any(axis=1)
        if thin.any():
            at = int(np.argmax(thin))
            have = int(np.isfinite(price[at]).all(axis=1).sum())
            detail = f"{have} levels on a side, asked for {levels}"
            self._damage("thin", int(times[at]), detail, int(times[thin][-1]))
        empty = np.isnan(price[:, 0]).any(axis=1)
        kept = ~empty
        samples = self.samples
        samples.time.append(times[kept])
        samples.update.append(updates[kept])
        samples.price.append(price[kept])
        samples.size.append(size[kept])

    def _wait_until(self, time: int) -> None:
        """Sample the book as it stands up to a snapshot, which then replaces it."""
        if self._sides is None or self._time is None:
            return
        tables = [_Table(side.price, side.size[None]) for side in self._sides]
        rows, times = self._grid(np.array([self._time]), np.array([time]))
        self._sample(tables, rows, times, np.full(len(rows), self._update))

    def _lose(self, kind: str, detail: str, time: int) -> None:
        """Know no book from the last good line on, up to the next snapshot."""
        start = time if self._time is None else self._time
        if self._rules.strict:
            raise DataError(f"{self._source}, {iso_utc(start)}: {kind}: {detail}")
        self._sides, self._lost = None, (kind, start, detail)

    def _close_gap(self, end: int) -> None:
        if self._lost is not None:
            kind, start, detail = self._lost
            self.samples.gaps.append(BookGap(kind, start, max(start, end), detail))
            self._lost = None

    def _damage(self, kind: str, start: int, detail: str, end: int | None = None) -> None:
        if self._rules.strict:
            raise DataError(f"{self._source}, {iso_utc(start)}: {kind}: {detail}")
        self.samples.gaps.append(BookGap(kind, start, start if end is None else end, detail))


def _blocks(lines: Lines) -> Iterator[tuple[int, int]]:
    """Yield the ends of blocks of lines; each snapshot begins one."""
    count = len(lines.time)
    changes = sum(np.bincount(side.line, minlength=count) for side in lines.sides)
    total = np.concatenate([[0], np.cumsum(changes)])
    snapshots = np.append(np.flatnonzero(lines.snapshot), count)
    start = 0
    while start < count:
        stop = min(start + _BLOCK_LINES, int(snapshots[np.searchsorted(snapshots, start + 1)]))
        full = int(np.searchsorted(total, total[start] + _BLOCK_CHANGES, side="right")) - 1
        stop = max(start + 1, min(stop, full))
        yield start, stop
        start = stop


def _tabulate(side: _Side, changes: Changes, start: int, stop: int, sign: int) -> _Table:
    """Return the sizes of a side after each line from `start` to `stop` - 1."""
    part = slice(*np.searchsorted(changes.line, [start, stop]))
    price, size, line = changes.price[part], changes.size[part], changes.line[part] - start
    columns, place = np.unique(sign * np.concatenate([side.price, price]), return_inverse=True)
    known, width = len(side.price), len(columns)
    sizes = np.zeros(width + len(size))
    sizes[place[:known]] = side.size
    sizes[width:] = size
    newest = np.zeros((stop - start + 1, width), np.int32)
    newest[0] = np.arange(width)
    # Of several changes of one level in one line the last one stays.
    newest[line + 1, place[known:]] = width + np.arange(len(size))
    np.maximum.accumulate(newest, axis=0, out=newest)
    return _Table(sign * columns, sizes[newest])


def _after(table: _Table, row: int) -> _Side:
    live = table.size[row] > 0
    return _Side(table.price[live], table.size[row][live])


def _first_crossed(bids: _Table, asks: _Table) -> int:
    """Return the first line after which the best bid is not below the best ask."""
    best = []
    for table, none in ((bids, -np.inf), (asks, np.inf)):
        live = table.size[1:] > 0
        if not live.shape[1]:
            best.append(np.full(len(live), none))
            continue
        first = live.argmax(axis=1)
        found = live[np.arange(len(live)), first]
        best.append(np.where(found, table.price[first], none))
    crossed = best[0] >= best[1]
    return int(np.argmax(np.append(crossed, True)))
