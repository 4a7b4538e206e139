"""Puts the stored results into the documents: `python -m benchmarks.report`.

Between `<!-- result: THEME -->` and `<!-- end: THEME -->` of `docs/performance.md` and `README.md`
stands what the newest result of the theme says, so that no figure is typed by hand. A theme that
was not measured keeps what stands there. Results of a GPU are taken before those of a CPU, which
`THEME-cpu` asks for by name.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cpu import PARTS
from benchmarks.gpu.bench import LATE, OUT_OF_MEMORY, Row
from benchmarks.gpu.goals import in_order
from benchmarks.gpu.hardware import slug
from benchmarks.gpu.tables import ONCE, Table, memory_cell, time_cell

Results = Mapping[str, tuple[Path, dict[str, Any]]]
"""Of each theme: the file, and what it holds."""

PROJECT = Path(__file__).resolve().parents[1]
PAGE = "docs/performance.md"
ON_CPU = "-cpu"
DOCUMENTS = (PAGE, "README.md")

SUMMARY = "summary"
"""The README's short table: of the goals, under the picture of growth."""

_REGION = re.compile(
    r"(?P<head><!-- result: (?P<theme>[a-z]+(?:-cpu)?) -->\n).*?(?P<foot><!-- end: (?P=theme) -->)",
    flags=re.DOTALL,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the documents, or say whether they are as the results have them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "benchmarks" / "results")
    parser.add_argument("--hardware", help="take results of this hardware only, such as h200")
    parser.add_argument("--plots", action="store_true", help="draw all plots again")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    options = parser.parse_args(arguments)
    results = newest(options.results, options.hardware)
    stale = 0
    for name in DOCUMENTS:
        path = PROJECT / name
        text = path.read_text(encoding="utf-8")
        wanted = rendered(text, results, path.parent)
        if wanted == text:
            continue
        stale += 1
        print(f"{name} {'is out of date' if options.check else 'written'}")
        if not options.check:
            path.write_text(wanted, encoding="utf-8")
    if not options.check:
        _draw(results, again=options.plots)
    return int(options.check and stale > 0)


def newest(folder: Path, hardware: str | None = None) -> Results:
    """Return the result of each theme: a GPU's before a CPU's, then the newest; and a CPU's own.

    Parameters
    ----------
    hardware : str or None
        Short name, as in the names of the files, to take only its results.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    ranks: dict[str, tuple[bool, str, str]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if "theme" not in result:  # of another benchmark, which has a document of its own
            continue
        if hardware not in (None, slug(result["hardware"])):
            continue
        on_gpu = result["driver"] != "none"
        rank = (on_gpu, result["date"], path.name)
        for theme in (result["theme"], *(() if on_gpu else (result["theme"] + ON_CPU,))):
            if rank > ranks.get(theme, (False, "", "")):
                ranks[theme] = rank
                found[theme] = path, result
    return found


def rendered(text: str, results: Results, folder: Path) -> str:
    """Return a document with its regions filled.

    Parameters
    ----------
    folder : Path
        Where the document lies, for the links to the plots.
    """

    def fill(region: re.Match[str]) -> str:
        body = _body(region["theme"], results, folder)
        return region[0] if body is None else f"{region['head']}{body}\n{region['foot']}"

    return _REGION.sub(fill, text)


def _body(theme: str, results: Results, folder: Path) -> str | None:
    if theme == SUMMARY:
        return _summary(results, folder)
    if theme not in results:
        return None
    path, result = results[theme]
    part = next(part for part in PARTS if part.name == theme.removesuffix(ON_CPU))
    tables = [table.markdown() for table in part.tables(result["rows"])]
    notes = [f"- {ONCE} timed once: it takes seconds, or has clearly lost"] * _any_once(tables)
    notes += [f"- {name}: {value}" for name, value in result["configuration"].items()]
    if result["formula"]:
        notes.append(f"- {result['formula']}")
    plot = f"![{result['title']}]({_link(path.with_suffix('.png'), folder)})"
    return "\n\n".join([_where(result), plot, *tables, "\n".join(notes)])


def _summary(results: Results, folder: Path) -> str | None:
    """Return the README's part: one plot, and the training steps and predictions of the goals.

    None without those of a GPU: the figures of a processor say little about this project.
    """
    if not {"goals", "growth"} <= set(results):
        return None
    _, goals = results["goals"]
    if goals["driver"] == "none":
        return None
    plot = results["growth"][0].with_suffix(".png")
    rows = [row for row in in_order(goals["rows"]) if not row["work"].startswith("attention")]
    cells = [_summary_cells(row) for row in rows if row["ms"] or row["note"] == OUT_OF_MEMORY]
    table = Table("", ["work", "how", "attention", "ms", "peak GiB"], cells)
    lines = [f"{ONCE} timed once."] * _any_once([table.markdown()])
    lines += [_equality(row) for row in rows if "difference" in row]
    if any(row["note"] == LATE for row in rows):
        lines.append(f"What was not run yet is listed in [{PAGE}]({PAGE}).")
    picture = f"![Growth of time and memory with length]({_link(plot, folder)})"
    return "\n\n".join([_where(goals), table.markdown(), *lines, picture])


def _summary_cells(row: Row) -> list[str]:
    shape = row["shape"].split(", ")[-1]
    how = f"{row['variant']}, {shape}"
    return [row["work"], how, row["attention"], time_cell(row), _memory(row)]


def _memory(row: Row) -> str:
    return memory_cell(row) if row["ms"] else ""


def _equality(row: Row) -> str:
    """Return what came of comparing one pass with the windows, as a sentence."""
    verdict = "equal to" if row["met"] else "not equal to"
    return (
        f"The pass is {verdict} the windows: at most {row['difference']:.1e} apart, the dtype's "
        f"own error {row['own_error']:.1e}, predictions {row['rms']:.1e}."
    )


def _any_once(tables: Sequence[str]) -> bool:
    return any(ONCE in table for table in tables)


def _where(result: Mapping[str, Any]) -> str:
    versions = result["versions"]
    named = {
        "torch": "torch",
        "cuda": "CUDA",
        "cudnn": "cuDNN",
        "flash_attn": "flash-attn",
        "flash_attn_4": "flash-attn-4",
    }
    present = [
        f"{name} {versions[key]}"
        for key, name in named.items()
        if versions.get(key) not in (None, "none", "absent")
    ]
    driver = "" if result["driver"] == "none" else f", driver {result['driver']}"
    runs = f"medians of {result['least_runs']} or more runs after warm-up"
    return f"{result['hardware']}{driver}, {', '.join(present)}; {result['date']}, {runs}."


def _link(path: Path, folder: Path) -> str:
    """Return the path of a plot from a document's folder."""
    path, folder = path.resolve(), folder.resolve()
    if not path.is_relative_to(PROJECT):
        return path.name
    up = "../" * len(folder.relative_to(PROJECT).parts)
    return f"{up}{path.relative_to(PROJECT).as_posix()}"


def _draw(results: Results, *, again: bool) -> None:
    from benchmarks.gpu.plots import draw

    for path, result in results.values():
        plot = path.with_suffix(".png")
        if again or not plot.is_file():
            draw(result, plot)
            print(f"drew {plot.name}")


if __name__ == "__main__":
    sys.exit(main())
