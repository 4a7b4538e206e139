"""A part of the suite: what it asks, what it measures, how its table reads."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.bench import Bench, Row
from benchmarks.gpu.tables import Table


@dataclass(frozen=True)
class Part:
    """One theme, from its question to its tables."""

    name: str
    """Theme: the name of its files and of `--only`."""
    title: str
    """Heading."""
    configuration: Callable[[Bench], dict[str, Any]]
    """What is measured, in full."""
    formula: str
    """How operations are counted; empty where none are."""
    seconds: float
    """Share of the suite's time on a GPU."""
    rows: Callable[[Bench], Iterator[Row]]
    """Measures, and yields each row as it is known."""
    tables: Callable[[Sequence[Row]], list[Table]]
    """Lays the rows out."""
