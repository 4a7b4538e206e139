"""What an audit finds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flash_pipeline.training.bundle import default_device

_TOLERANCE = {"cpu": 1e-4, "cuda": 0.05}

AUDIT_SCHEMA = pa.schema(
    [
        pa.field("audit", pa.string(), nullable=False),
        pa.field("passed", pa.bool_(), nullable=False),
        pa.field("checked", pa.bool_(), nullable=False),
        pa.field("words", pa.string(), nullable=False),
        pa.field("figures", pa.string(), nullable=False),
    ],
    metadata={
        "passed": "true where the audit was carried out and found no leak",
        "checked": "false where the data at hand could not tell: neither passed nor failed",
        "figures": "JSON",
    },
)
"""Columns of a table of audits."""


@dataclass(frozen=True)
class AuditResult:
    """The outcome of one audit."""

    audit: str
    """Its name."""
    passed: bool
    """Whether the audit was carried out and found no leak."""
    words: str
    """What was done and what came of it."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured."""
    checked: bool = True
    """False where the data at hand could not tell, as `words` say: neither passed nor failed."""

    @property
    def failed(self) -> bool:
        """Whether a leak was found."""
        return self.checked and not self.passed

    @property
    def outcome(self) -> str:
        """`passed`, `failed` or `not checked`."""
        return ("passed" if self.passed else "failed") if self.checked else "not checked"


def audits_table(results: Sequence[AuditResult]) -> pa.Table:
    """Return audits as a table of `AUDIT_SCHEMA`, one row each."""
    rows = [
        {
            "audit": each.audit,
            "passed": each.passed,
            "checked": each.checked,
            "words": each.words,
            "figures": json.dumps(each.figures, sort_keys=True),
        }
        for each in results
    ]
    return pa.Table.from_pylist(rows, schema=AUDIT_SCHEMA)


def tolerance() -> float:
    """Return the largest difference of two predictions that rounding explains here.

    In units of their root mean square: the two ways of predicting a window, alone and in one pass
    over a series, sum in another order. A processor computes in float32; a GPU's matrix products
    run in bf16, which has 8 bits, and the model rounds once per layer and product.
    """
    return _TOLERANCE[default_device().type]


def not_checked(audit: str, why: str) -> AuditResult:
    """Return the result of an audit that the data at hand cannot decide."""
    return AuditResult(audit, False, f"not checked: {why}", checked=False)


def largest_difference(
    found: npt.NDArray[np.floating], expected: npt.NDArray[np.floating]
) -> float:
    """Return the largest difference in units of the root mean square of the expected values.

    NaN on both sides is equal; on one side it is an infinite difference. 0 without any value.
    """
    one_sided = np.isnan(found) != np.isnan(expected)
    if one_sided.any():
        return float("inf")
    known = np.isfinite(expected)
    if not known.any():
        return 0.0
    wide = expected[known].astype(np.float64)
    difference = float(np.abs(found[known].astype(np.float64) - wide).max())
    scale = float(np.sqrt((wide**2).mean()))
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))
