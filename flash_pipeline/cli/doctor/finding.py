"""What doctor finds: one line on one thing, and how to mend it."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]
"""`warn`: works, and worse than it could; `fail`: the pipeline does not work so."""


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    check: str
    """What was looked at."""
    status: Status
    """How it is."""
    found: str
    """What was found."""
    mend: str = ""
    """How to mend it; empty where nothing is to be done."""


def worst(findings: list[Finding]) -> Status:
    """Return the worst status of some findings."""
    order: tuple[Status, ...] = ("ok", "warn", "fail")
    return max((each.status for each in findings), key=order.index, default="ok")
