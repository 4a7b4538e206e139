"""Runs parts one after the other, prints their tables, and keeps what they found."""

import contextlib
import datetime as dt
import gc
import json
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.bench import LEAST_RUNS, WARM_UP, Bench, DeviceLost, Row, settled
from benchmarks.gpu.hardware import driver, hardware_name, slug, versions
from benchmarks.gpu.part import Part

Result = dict[str, Any]
"""What a part found, as it is stored."""


def run_parts(
    parts: Sequence[Part],
    bench: Bench,
    out: Path,
    minutes: float | None = None,
    *,
    missing: bool = False,
) -> None:
    """Run parts, print their tables and write a result and a plot of each.

    Parameters
    ----------
    parts : sequence of Part
        In the order of their worth: time that one leaves is the next one's.
    bench : Bench
        Where and how large; its `results` grow by those of the parts.
    out : Path
        Folder of the results.
    minutes : float or None
        Time for all of them, shared out by their `seconds`; None for no limit.
    missing : bool
        Whether rows that the stored result of this day has measured are kept as they are, where
        it is of this hardware and these versions.

    Raises
    ------
    DeviceLost
        If the GPU is not usable any more; what was measured until then is written.
    """
    out.mkdir(parents=True, exist_ok=True)
    start, total = time.monotonic(), sum(part.seconds for part in parts)
    spent = 0.0
    gc.freeze()  # or collecting between measurements would walk the libraries each time
    try:
        for part in parts:
            spent += part.seconds
            if minutes is not None:
                bench.deadline = start + 60 * minutes * spent / total
            _run(part, bench, out, missing=missing)
    finally:
        gc.unfreeze()


def _run(part: Part, bench: Bench, out: Path, *, missing: bool) -> None:
    """Run a part; whatever ends it, what it measured is written and printed."""
    rows: list[Row] = []
    began = time.monotonic()
    before = _stored(part, bench, out) if missing else None
    bench.stored = before["rows"] if before else ()
    complete = False
    try:
        for row in part.rows(bench):
            rows.append(row)
            if row not in bench.stored:
                print(f"  {part.name}: {_brief(row)}", flush=True)
        complete = True
    except DeviceLost:
        raise
    except Exception:  # noqa: BLE001  (the parts after it can still be measured)
        traceback.print_exc()
        bench.failed.append(part.name)
    finally:
        if not complete:
            rows += [row for row in bench.stored if settled(row) and row not in rows]
        spent = time.monotonic() - began + (before["seconds"] if before else 0)
        result = _result(part, bench, rows, spent)
        bench.results.append(result)
        if rows:
            _show(result, part, bench, save(result, out))
    bench.free()


def _show(result: Result, part: Part, bench: Bench, path: Path) -> None:
    """Print a result and draw it beside its file; a fault in this costs no measurement."""
    try:
        print(describe(result, part), flush=True)
        with contextlib.suppress(ImportError):  # without matplotlib it is drawn later
            from benchmarks.gpu.plots import draw

            draw(result, path.with_suffix(".png"))
    except Exception:  # noqa: BLE001  (what was measured is on disk by now)
        traceback.print_exc()
        bench.failed.append(part.name)


def describe(result: Result, part: Part) -> str:
    """Return a result as text: what it ran on, how, and its tables."""
    lines = [
        "",
        f"## {result['title']}",
        f"{result['hardware']}, driver {result['driver']}, {result['date']}",
        ", ".join(f"{name} {value}" for name, value in result["versions"].items()),
        *(f"{name}: {value}" for name, value in result["configuration"].items()),
        f"medians of at least {result['least_runs']} after {result['warm_up']} or more of warm-up",
        *([result["formula"]] if result["formula"] else []),
    ]
    for table in part.tables(result["rows"]):
        lines += ["", table.markdown()]
    return "\n".join(lines)


def save(result: Result, out: Path) -> Path:
    """Write a result as `theme_hardware_date.json` and return the file."""
    path = _path(result, out)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


def _stored(part: Part, bench: Bench, out: Path) -> Result | None:
    """Return this day's result of a part, measured at these sizes on just what is measured now."""
    now = _result(part, bench, [], 0.0)
    path = _path(now, out)
    if not path.is_file():
        return None
    stored: Result = json.loads(path.read_text(encoding="utf-8"))
    same = ("hardware", "driver", "versions", "scale")
    others = [name for name in same if stored[name] != now[name]]
    if others:
        print(f"{path.name} is of other {', '.join(others)}: {part.name} is measured afresh")
        return None
    return stored


def _path(result: Result, out: Path) -> Path:
    return out / f"{result['theme']}_{slug(result['hardware'])}_{result['date']}.json"


def _result(part: Part, bench: Bench, rows: list[Row], seconds: float) -> Result:
    return {
        "theme": part.name,
        "title": part.title,
        "hardware": hardware_name(bench.device),
        "driver": driver() if bench.cuda else "none",
        "versions": versions(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "scale": bench.scale,
        "configuration": part.configuration(bench),
        "formula": part.formula,
        "warm_up": WARM_UP,
        "least_runs": LEAST_RUNS,
        "seconds": round(seconds, 1),
        "rows": rows,
    }


def _brief(row: Row) -> str:
    shown = (str(value) for value in row.values() if value not in (None, "", 0, False, True))
    return " ".join(shown)[:160]
