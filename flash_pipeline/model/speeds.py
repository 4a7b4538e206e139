"""How fast each attention backend was where it was measured: what `auto` goes by.

`speeds.json` is written by `python -m benchmarks.gpu --write-speeds` and shipped with the
package. It holds for the hardware it names; on another GPU it is a guess that an explicit backend,
or a table of one's own, overrides.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from flash_pipeline.errors import InvalidInput
from flash_pipeline.model.config import SpanName
from flash_pipeline.model.refusals import BACKENDS, BackendName

_SHIPPED = "speeds.json"


@dataclass(frozen=True)
class SpeedRow:
    """One measurement: forward and backward in bfloat16."""

    head_size: int
    """Width of a head."""
    span: SpanName
    """Which keys a query sees."""
    length: int
    """Bars."""
    ms: Mapping[BackendName, float]
    """Median milliseconds of each backend that ran."""


@dataclass(frozen=True)
class SpeedTable:
    """Measurements on one kind of hardware."""

    hardware: str
    """GPU."""
    rows: tuple[SpeedRow, ...]
    """Any number of them."""

    def ranking(self, head_size: int, span: SpanName, length: int) -> tuple[BackendName, ...]:
        """Return the measured backends, fastest first, at the nearest size; none without a row.

        The nearest row has the span asked for, the head size nearest by its logarithm and, among
        those, the length nearest by its logarithm.
        """
        rows = [row for row in self.rows if row.span == span]
        if not rows:
            return ()
        nearest = min(
            rows,
            key=lambda row: (
                abs(math.log2(row.head_size / head_size)),
                abs(math.log2(row.length / length)),
            ),
        )
        return tuple(sorted(nearest.ms, key=lambda name: nearest.ms[name]))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SpeedTable":
        """Return the table that the benchmark wrote.

        Raises
        ------
        InvalidInput
            If a key is missing, a backend unknown or a time no positive number.
        """
        try:
            rows = tuple(
                SpeedRow(int(row["head_size"]), row["span"], int(row["length"]), _times(row["ms"]))
                for row in values["rows"]
            )
            return cls(str(values["hardware"]), rows)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"no table of attention speeds: {error!r}") from error


@functools.cache
def shipped_speeds() -> SpeedTable:
    """Return the table that comes with the package."""
    text = resources.files("flash_pipeline.model").joinpath(_SHIPPED).read_text()
    return SpeedTable.from_dict(json.loads(text))


def _times(values: Mapping[str, float]) -> dict[BackendName, float]:
    for name, ms in values.items():
        if name not in BACKENDS:
            raise ValueError(f"backend {name!r} is unknown")
        if not ms > 0:
            raise ValueError(f"{name} took {ms!r} ms")
    return cast(dict[BackendName, float], dict(values))
