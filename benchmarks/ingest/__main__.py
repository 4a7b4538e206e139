"""Measures the ingester against exchanges that fail, die and hurry: `make bench-ingest`.

    python benchmarks/ingest [campaign harm cost throughput memory]

Prints tables and, where all parts were run, writes benchmarks/results/ingest_<hw>_<date>.json and
the figures in docs/market-data.md.
Figures of a shared machine are noisy, so compare them within one run.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import campaign
import cost
import harm
import memory
import throughput
from common import Result, machine, print_table, write_results
from document import write_document

PARTS: dict[str, Callable[[Path], Result]] = {
    "cost": cost.measure,
    "throughput": throughput.measure,
    "memory": memory.measure,
    "harm": harm.measure,
    "campaign": campaign.measure,
}


def main() -> None:
    """Run the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all of them")
    asked = parser.parse_args().parts or list(PARTS)
    about = machine()
    versions = about["versions"].items()
    print_table("Machine", [(k, v) for k, v in about.items() if k != "versions"])
    print_table("Versions", versions)
    results: Result = {"machine": about}
    for name in asked:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
            results[name] = PARTS[name](Path(folder))
        print(f"  ({name} took {time.perf_counter() - started:.0f} s)")
    if set(asked) == set(PARTS):
        print(f"\nwritten to {write_results(results)}")
        write_document(results)


if __name__ == "__main__":
    main()
