"""The table that `auto` goes by, out of a stored result: `python -m benchmarks.gpu.kernels_table`.

The table holds what the result holds and nothing else, so that every figure that `auto` acts on can
be looked up. What the result lacks is listed beside the rows.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from benchmarks.gpu.bench import Row
from benchmarks.gpu.suite import Result
from benchmarks.gpu.tables import distinct
from flash_pipeline.model.config import SpanName
from flash_pipeline.model.refusals import BACKENDS

SPEEDS = Path("flash_pipeline/model/speeds.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table of one result, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="such as benchmarks/results/kernels_*.json")
    parser.add_argument("--out", type=Path, default=SPEEDS, help=f"by default {SPEEDS}")
    parser.add_argument(
        "--incomplete", action="store_true", help="write it even where a span has no row"
    )
    options = parser.parse_args(arguments)
    result = json.loads(options.result.read_text(encoding="utf-8"))
    return write(result, options.out, incomplete=options.incomplete)


def write(result: Result, path: Path, *, incomplete: bool = False) -> int:
    """Write the table of a result of `kernels`, and return the exit code.

    Parameters
    ----------
    incomplete : bool
        Whether a span without a row is left to the order that `auto` has without a table;
        otherwise such a table is refused, and nothing written.
    """
    table = speeds(result)
    absent = sorted(set(get_args(SpanName)) - {row["span"] for row in table["rows"]})
    if absent and not incomplete:
        print(f"no speeds written: nothing was measured for {', '.join(absent)}")
        return 2
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {len(table['rows'])} rows to {path}; not measured: {len(table['missing'])}")
    return 0


def speeds(result: Result) -> dict[str, Any]:
    """Return the table that `flash_pipeline.model.speeds` reads: forward and backward, in ms.

    `missing` names the shapes on which no backend was timed.
    """
    rows, missing = [], []
    shapes = distinct(result["rows"], "head_size", "span", "length", "batch")
    for head_size, span, length, batch in sorted(shapes, key=lambda shape: tuple(map(_key, shape))):
        case: Row = {"head_size": head_size, "span": span, "length": length}
        timed = _timed(result["rows"], case)
        if timed:
            tokens = int(str(length)) * int(str(batch))
            rows.append({**case, "tokens": tokens, "ms": timed})
        else:
            missing.append(case)
    head = {name: result[name] for name in ("hardware", "date", "versions")}
    return {**head, "missing": missing, "rows": rows}


def _timed(rows: Sequence[Row], case: Row) -> dict[str, float]:
    return {
        row["backend"]: row["ms"]
        for row in rows
        if case.items() <= row.items() and row["ms"] and row["backend"] in BACKENDS
    }


def _key(value: object) -> tuple[str, float]:
    """Return a key by which names sort by the alphabet and numbers by their size."""
    return (value, 0.0) if isinstance(value, str) else ("", float(str(value)))


if __name__ == "__main__":
    sys.exit(main())
