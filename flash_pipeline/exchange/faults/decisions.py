"""Whether an attempt fails, and how: from its seed, path, query and number alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from flash_pipeline.exchange.faults.spec import FaultSpec


@dataclass(frozen=True)
class Attempt:
    """One attempt at a query."""

    path: str
    """Path of the URL."""
    query: str
    """Parameters in the order of their names."""
    number: int
    """1 for the first."""
    fails: bool
    """Whether a fault is wanted."""
    random: Random
    """Seeded by all of the above: chooses the kind and its details."""


@dataclass(frozen=True)
class Injection:
    """A fault that was injected."""

    path: str
    """Path of the URL."""
    query: str
    """Parameters in the order of their names."""
    attempt: int
    """1 for the first."""
    kind: str
    """Name of the fault."""


@dataclass
class _History:
    attempts: int = 0
    failed_in_a_row: int = 0


class Decisions:
    """Counts the attempts at each query and decides on each.

    An attempt fails with the probability of the specification, unless the `burst` attempts
    before it have failed. So the decision on attempt n of a query follows from the draws for its
    attempts 1 to n, and from nothing else.

    Parameters
    ----------
    spec : FaultSpec
        Seed, rate and burst.
    """

    def __init__(self, spec: FaultSpec) -> None:
        self._spec = spec
        self._histories: dict[tuple[str, str], _History] = {}

    def attempt(self, path: str, parameters: Iterable[tuple[str, str]]) -> Attempt:
        """Count and return the next attempt at a query."""
        query = "&".join(f"{name}={value}" for name, value in sorted(parameters))
        history = self._histories.setdefault((path, query), _History())
        history.attempts += 1
        # A text seeds through its digest: the same in every process.
        random = Random(f"{self._spec.seed} {path}?{query} {history.attempts}")
        drawn = random.random() < self._spec.rate
        fails = drawn and history.failed_in_a_row < self._spec.burst
        history.failed_in_a_row = history.failed_in_a_row + 1 if fails else 0
        return Attempt(path, query, history.attempts, fails, random)
