"""Which faults are wanted: read from a line or a JSON file."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.faults.kinds import KINDS

_ALL = "all"


@dataclass(frozen=True)
class FaultSpec:
    """Which faults, how many and from which seed.

    Raises
    ------
    InvalidConfig
        If a value is out of its bounds or a kind is unknown.

    Examples
    --------
    >>> FaultSpec.parse("seed=7,rate=0.3,kinds=latency+ban_403,burst=2,latency_ms=50").kinds
    ('latency', 'ban_403')
    """

    seed: int = 0
    """Any integer; another one gives other faults."""
    rate: float = 0.1
    """Probability that an attempt fails, 0 to 1."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Names of `KINDS`; of those that can happen to a request each is as likely."""
    burst: int = 2
    """Faults in a row that one query meets at most, 1 or more; the next attempt is answered."""
    latency_ms: float = 50.0
    """Milliseconds that the kind `latency` adds, 0 or more."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InvalidConfig(f"fault rate {self.rate} is not within 0 to 1")
        if self.burst < 1:
            raise InvalidConfig(f"fault burst {self.burst} is not 1 or more")
        if not (math.isfinite(self.latency_ms) and self.latency_ms >= 0):
            raise InvalidConfig(f"fault latency_ms {self.latency_ms} is not 0 or more")
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown or not self.kinds:
            wrong = unknown[0] if unknown else ""
            raise InvalidConfig(f"fault kind {wrong!r} is unknown: expected of {' '.join(KINDS)}")

    @classmethod
    def parse(cls, text: str) -> "FaultSpec":
        """Return the specification of a line such as `seed=7,rate=0.3`, or of a JSON file.

        A text with `=` is read as a line, any other as the path of a file that holds an object of
        the same names. `kinds` is `all`, or names joined by `+`; in a file also an array.

        Raises
        ------
        InvalidConfig
            If the text or the file cannot be read, or a name or value is wrong.
        """
        values = _line(text) if "=" in text else _file(Path(text))
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            names = " ".join(field.name for field in fields(cls))
            raise InvalidConfig(f"fault option {unknown[0]!r} is unknown: expected of {names}")
        try:
            read = {name: _READERS[name](value) for name, value in values.items()}
        except (TypeError, ValueError) as error:
            raise InvalidConfig(f"a value of faults {text!r} is wrong: {error}") from None
        return cls(**read)


def _line(text: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in text.split(",")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def _file(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidConfig(f"fault file {str(path)!r} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InvalidConfig(f"fault file {str(path)!r} holds no JSON object")
    return values


def _kinds(value: str | list[str]) -> tuple[str, ...]:
    if value == _ALL:
        return tuple(KINDS)
    return tuple(value.split("+") if isinstance(value, str) else value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "seed": int,
    "rate": float,
    "kinds": _kinds,
    "burst": int,
    "latency_ms": float,
}
