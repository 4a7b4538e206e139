"""Writes the figures of a run into docs/market-data.md, so that the two never differ."""

from pathlib import Path

from common import Result

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "market-data.md"
HEADING = "## Measured\n"

_TITLES = {
    "cost": "Requests",
    "throughput": "Throughput, 5 symbols, November 2021 to June 2024",
    "memory": "Many symbols, one year of hours",
    "harm": "Harm done to a backfill of 12 months of 5 symbols",
    "campaign": "Backfills of 12 months of 5 symbols under injected faults",
}


def write_document(results: Result) -> None:
    """Replace the last section of the document, the measured figures."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[0]
    DOCUMENT.write_text(text + measured(results), encoding="utf-8")


def measured(results: Result) -> str:
    """Return the section: the machine, then one table per part; nested figures are left out."""
    about = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        HEADING,
        f"{about['cores']} cores, shared with other work, of {about['processor']}, "
        f"{about['memory_gib']} GiB, Python {about['python']}, {versions}; {about['date']}. "
        "Retaken by `make bench-ingest`, which writes this section and a file below "
        "`benchmarks/results/`.",
    ]
    for part, title in _TITLES.items():
        figures = results[part].items()
        rows = [f"| {name} | {_shown(x)} |" for name, x in figures if not isinstance(x, dict)]
        lines += ["", f"| {title} | |", "|---|---|", *rows]
    return "\n".join([*lines, ""])


def _shown(figure: object) -> str:
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    return f"{figure:,}" if isinstance(figure, int) else str(figure)
