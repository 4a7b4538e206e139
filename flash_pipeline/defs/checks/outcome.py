"""The outcome of a check that looked for problems."""

from collections.abc import Sequence

import dagster as dg

_SHOWN = 10


def warning(doubts: Sequence[str]) -> dg.AssetCheckResult:
    """Return the result of a check whose findings a person should look at."""
    return problems_result(doubts, dg.AssetCheckSeverity.WARN)


def problems_result(
    problems: Sequence[str], severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
) -> dg.AssetCheckResult:
    """Return the result of a check that passes where it found no problem."""
    return dg.AssetCheckResult(
        passed=not problems,
        severity=severity,
        description="; ".join(problems[:_SHOWN]) or None,
        metadata={"problems": len(problems)},
    )
