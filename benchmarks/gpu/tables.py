"""Results as Markdown tables, for the terminal and the documents alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gpu.bench import Row

NOTHING = "-"
"""Of a cell that was not asked for."""

ONCE = "†"
"""Behind a time that is not a median: the call was timed once."""


@dataclass(frozen=True)
class Table:
    """A title, the columns' names and the cells."""

    title: str
    """What the table shows; empty where the text around it says so."""
    header: Sequence[str]
    """Names of the columns."""
    cells: Sequence[Sequence[str]]
    """Rows of text."""
    note: str = ""
    """What stands below it."""

    def markdown(self) -> str:
        """Return the table, its columns padded so that it reads as plain text too.

        Without a row there is no table, only title and note.
        """
        parts = [f"**{self.title}**"] if self.title else []
        parts += ["\n".join(self._lines())] if self.cells else []
        return "\n\n".join([*parts, self.note] if self.note else parts)

    def _lines(self) -> list[str]:
        widths = [
            max(3, *(len(line[i]) for line in [self.header, *self.cells]))
            for i in range(len(self.header))
        ]
        rule = ["-" * width for width in widths]
        return [_line(line, widths) for line in [self.header, rule, *self.cells]]


def number(value: float | None, unit: str = "") -> str:
    """Return a figure with three significant digits and thousands marked.

    Examples
    --------
    >>> number(0.7249), number(1234567.0), number(33.46, "ms"), number(None)
    ('0.725', '1,230,000', '33.5 ms', '-')
    """
    if value is None:
        return NOTHING
    digits = float(f"{value:.3g}")
    text = f"{digits:,.0f}" if abs(digits) >= 100 else f"{digits:.3g}"
    return f"{text} {unit}".strip()


def million(value: float | None) -> str:
    """Return a figure in millions."""
    return number(None if value is None else value / 1e6)


def time_cell(row: Row | None) -> str:
    """Return the time of a row in ms; where there is none, why."""
    if row is None:
        return NOTHING
    if row["ms"] is None:
        return note_cell(row["note"])
    return number(row["ms"]) + (ONCE if row.get("runs") == 1 else "")


def memory_cell(row: Row | None) -> str:
    """Return the peak of a row in GiB; where there is none, why."""
    if row is None or row.get("peak_gib") is None:
        return NOTHING if row is None else note_cell(row["note"])
    return number(row["peak_gib"])


def note_cell(note: str) -> str:
    """Return a note short enough for a cell; the whole of it is in the JSON.

    Examples
    --------
    >>> note_cell("refused: it takes no key mask"), note_cell("out of memory"), note_cell("")
    ('refused', 'out of memory', '-')
    """
    return note.partition(":")[0] or NOTHING


def not_run(names: Sequence[str]) -> str:
    """Return the note on rows that a table leaves out, since there was no time for them.

    Examples
    --------
    >>> not_run(["8 x 32", "4 x 64"]), not_run([])
    ('Not run yet: 8 x 32; 4 x 64.', '')
    """
    return f"Not run yet: {'; '.join(names)}." if names else ""


def find(rows: Sequence[Row], **wanted: object) -> Row | None:
    """Return the first row with these values; None without one."""
    for row in rows:
        if all(row.get(name) == value for name, value in wanted.items()):
            return row
    return None


def distinct(rows: Sequence[Row], *names: str) -> list[tuple[object, ...]]:
    """Return the combinations of values that occur, in the order of their first row."""
    return list(dict.fromkeys(tuple(row.get(name) for name in names) for row in rows))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"
