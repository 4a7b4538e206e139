"""How commands answer: tables for people, JSON for programs."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs, in place of a table."
)
"""The option of every command that reads."""

_PIPED_WIDTH = 400
"""Columns where no terminal says how many there are: lines are not cut for a program."""


def console() -> "Console":
    """Return where tables go: coloured in a terminal, plain elsewhere."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    styles: Sequence[str] | None = None,
) -> None:
    """Print rows below the names of their columns.

    Parameters
    ----------
    right : iterable of str
        Columns of numbers.
    styles : sequence of str or None
        Of each row, as rich names them; None for plain ones.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table, numbers = Table(box=box.SIMPLE_HEAD, pad_edge=False), set(right)
    for name in columns:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for place, row in enumerate(rows):
        cells = (Text(cell) for cell in row)  # what looks like markup is text
        table.add_row(*cells, style=styles[place] if styles is not None else None)
    console().print(table)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; a number that is not finite is null, as JSON has none."""
    click.echo(json.dumps(_finite(values), indent=2, allow_nan=False, default=str))


def duration_words(seconds: float) -> str:
    """Return a span of time in its two largest units.

    Examples
    --------
    >>> duration_words(59), duration_words(5_520), duration_words(200_000)
    ('59 s', '1 h 32 min', '2 d 7 h')
    """
    minutes = int(seconds // 60)
    hours, days = minutes // 60, minutes // 1440
    if minutes < 1:
        return f"{int(seconds)} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


def prediction_words(head: str, prediction: float) -> str:
    """Return a prediction in the unit of its head.

    Examples
    --------
    >>> prediction_words("regression", 0.0125), prediction_words("direction", 0.625)
    (' +1.250% log return', '  62.5% probability of a rise')
    """
    if head == "direction":
        return f"{prediction:7.1%} probability of a rise"
    if head == "allocation":
        return f"{prediction:+7.2f} weight"
    return f"{prediction:+8.3%} {'median ' if head == 'quantile' else ''}log return"


def _finite(value: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
