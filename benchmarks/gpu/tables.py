"""Results as Markdown tables, for the terminal and the documents alike."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.gpu.bench import Row

NOTHING = "-"
"""Of a cell that was not asked for."""


@dataclass(frozen=True)
class Table:
    """A title, the columns' names and the cells."""

    title: str
    """What the table shows; empty where the text around it says so."""
    header: Sequence[str]
    """Names of the columns."""
    cells: Sequence[Sequence[str]]
    """Rows of text."""

    def markdown(self) -> str:
        """Return the table, its columns padded so that it reads as plain text too."""
        widths = [
            max(3, *(len(line[i]) for line in [self.header, *self.cells]))
            for i in range(len(self.header))
        ]
        rule = ["-" * width for width in widths]
        lines = [_line(line, widths) for line in [self.header, rule, *self.cells]]
        return "\n".join([f"**{self.title}**", "", *lines] if self.title else lines)


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
    return number(row["ms"])


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
